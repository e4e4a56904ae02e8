"""The only place where code from a file is run, reached only with ``trust_pickle``."""

from __future__ import annotations

import io
import pickle
import warnings
from typing import Any, BinaryIO

import torch
from torch import nn

from robustkit.auditing._batches import InBatches

ENDLESS = 2**31  # a bound so large is none


def unpickle(stream: BinaryIO) -> Any:
    """Unpickle with everything that the file asks for: a whole module, its classes importable here."""
    stream.seek(0)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            return torch.load(stream, map_location="cpu", weights_only=False)
        except RuntimeError as error:
            if "magic number" not in str(error):
                raise
            stream.seek(0)
            return pickle.load(stream)


def torchscript(stream: BinaryIO) -> nn.Module:
    """Load TorchScript, code and all."""
    stream.seek(0)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # that torch.jit is deprecated is not the user's doing
        network: nn.Module = torch.jit.load(io.BytesIO(stream.read()), map_location="cpu")  # type: ignore[no-untyped-call]
    return network


def exported(stream: BinaryIO) -> InBatches:
    """Load a ``torch.export`` program, which is given only the batch sizes that it was exported for."""
    stream.seek(0)
    program = torch.export.load(io.BytesIO(stream.read()))
    return InBatches(program.module(), *_batches(program))


def _batches(program: Any) -> tuple[int, int]:
    """Return the fewest and the most images at a time; the most 0: any number."""
    names = program.graph_signature.user_inputs
    values = [n.meta.get("val") for n in program.graph.nodes if n.op == "placeholder" and n.name in names]
    batch = values[0].shape[0] if values and isinstance(values[0], torch.Tensor) and values[0].ndim else None
    if isinstance(batch, int):
        return batch, batch
    known = program.range_constraints.get(getattr(getattr(batch, "node", None), "expr", None))
    if known is None:
        return 1, 0
    low, high = int(known.lower), int(known.upper) if known.upper < ENDLESS else 0
    return (low if low > 2 else 1), high  # 2 is what torch.export always says, and one image does
