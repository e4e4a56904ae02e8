"""The only place where code from a file is run, reached only with ``trust_pickle``."""

from __future__ import annotations

import io
import pickle
import warnings
from typing import Any, BinaryIO

import torch
from torch import nn

from robustkit.auditing._batches import InBatches, sizes
from robustkit.auditing._scripted import Scripted, loaded, names_a_device


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
    """Load TorchScript, code and all; what its code makes on the CPU it makes where the module is moved."""
    stream.seek(0)
    network = loaded(io.BytesIO(stream.read()))
    return Scripted(network) if names_a_device(network) else network


def exported(stream: BinaryIO) -> InBatches:
    """Load a ``torch.export`` program, which is given only the batch sizes that it was exported for."""
    stream.seek(0)
    program = torch.export.load(io.BytesIO(stream.read()))
    names = program.graph_signature.user_inputs
    inputs = [node for node in program.graph.nodes if node.op == "placeholder" and node.name in names]
    return InBatches(program.module(), *sizes(inputs, program.range_constraints))
