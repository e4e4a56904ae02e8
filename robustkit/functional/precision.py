"""In which precision losses and maps are computed, whatever the networks were run in; and how a GPU is to round."""

from __future__ import annotations

import threading
from collections.abc import Iterable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from typing import Any

import torch
from torch import Tensor

ENDS_FAR_BELOW = (torch.bfloat16, torch.float32, torch.float64)  # float16 has ordinary weights where it ends: 6e-5


def full(z: Tensor) -> Tensor:
    """Return a tensor in float32, or in float64 where it is that already.

    Half precision is for a network's convolutions; sums, logarithms and determinants of its outputs need more.
    """
    return z if z.dtype == torch.float64 else z.float()


def has_float64(device: torch.device) -> bool:
    """Return whether a device computes in float64; Apple's GPUs (MPS) do not."""
    return device.type != "mps"


def wide(z: Tensor) -> Tensor:
    """Return a tensor in the widest precision that its device has: float64, on Apple's GPUs float32."""
    return z.double() if has_float64(z.device) else z.float()


def divided(x: Tensor, number: float) -> Tensor:
    """Return x / number, rounded as a division: CUDA multiplies by the reciprocal of a number that the host names.

    Of the 256 levels k / 255 that moves 126 by a unit in the last place, which tells k / 255 from a level.
    """
    return x / x.new_full((), number)


def denormal(values: Tensor) -> Tensor:
    """Return which values are not zero, but below the smallest normal number of their type; of float16 none counts."""
    if values.dtype not in ENDS_FAR_BELOW or values.layout != torch.strided:
        return torch.zeros((), dtype=torch.bool, device=values.device)
    return (values != 0) & (values.abs() < torch.finfo(values.dtype).tiny)


@torch.no_grad()
def flush_denormals(tensors: Iterable[Tensor]) -> None:
    """Set to zero in place what is below the smallest normal number of its type.

    Adam drives weights that no image moves there by weight decay, and they stay, since what they would shrink by is
    rounded away: one in fifteen of a LeNet's. No sum notices them, but a processor takes many times as long for each.
    """
    for values in tensors:
        if bool((found := denormal(values)).any()):
            values.masked_fill_(found, 0)


class _Exactly:
    """How many ask for exact arithmetic at present, of all threads; the flags are the process's."""

    def __init__(self) -> None:
        self.lock, self.asking, self.flags = threading.Lock(), 0, ExitStack()

    def enter(self) -> None:
        with self.lock:
            self.asking += 1
            if self.asking == 1:
                cudnn: Any = torch.backends.cudnn
                self.flags.enter_context(_set(cudnn, "deterministic", True))
                self.flags.enter_context(_set(cudnn, "benchmark", False))
                self.flags.enter_context(_without_tf32(cudnn, getattr(cudnn, "conv", None)))
                matmul: Any = torch.backends.cuda.matmul
                self.flags.enter_context(_without_tf32(matmul, matmul))

    def leave(self) -> None:
        with self.lock:
            self.asking -= 1
            if not self.asking:
                self.flags.close()


_EXACTLY = _Exactly()


@contextmanager
def exactly(device: torch.device) -> Iterator[None]:
    """Compute float32 on a CUDA device in float32 within the block, and each sum in the same order every time.

    By default cuDNN's convolutions read 10 bits of each mantissa there (TF32): logits move by a thousandth of their
    size, and some verdicts with them. Scores, probes and proofs of faster copies, and attacks on the exact model, are
    not computed so; trainings and models in reduced precision are. Nests, from any thread; no other device is touched.
    """
    if device.type != "cuda":
        yield
        return
    _EXACTLY.enter()
    try:
        yield
    finally:
        _EXACTLY.leave()


def arithmetic(device: torch.device) -> dict[str, Any]:
    """Return what results computed :func:`exactly` on a device may depend on besides it; empty of all but CUDA's."""
    if device.type != "cuda":
        return {}
    cudnn: Any = torch.backends.cudnn
    with exactly(device):
        convolutions = getattr(getattr(cudnn, "conv", None), "fp32_precision", None)
        return {
            "cuda": torch.version.cuda,
            "cudnn": cudnn.version(),
            "tf32": convolutions == "tf32" if convolutions is not None else bool(cudnn.allow_tf32),
            "matmul_precision": torch.get_float32_matmul_precision(),
            "cudnn_deterministic": bool(cudnn.deterministic),
            "cudnn_benchmark": bool(cudnn.benchmark),
            "deterministic_algorithms": torch.are_deterministic_algorithms_enabled(),
            "capability": ".".join(map(str, torch.cuda.get_device_capability(device))),
        }


@contextmanager
def _set(owner: Any, name: str, value: object) -> Iterator[None]:
    before = getattr(owner, name)
    setattr(owner, name, value)
    try:
        yield
    finally:
        setattr(owner, name, before)


@contextmanager
def _without_tf32(older: Any, newer: Any) -> Iterator[None]:
    """Switch TF32 off by whichever of torch's two switches can be read, and undo it.

    Torch 2.9 and later have ``fp32_precision`` beside ``allow_tf32``, and refuse to read the older one where somebody
    has set the newer one otherwise.
    """
    with ExitStack() as stack:
        with suppress(RuntimeError):
            stack.enter_context(_set(older, "allow_tf32", False))
        if getattr(newer, "fp32_precision", "ieee") == "tf32":  # as a default of all of torch says
            stack.enter_context(_set(newer, "fp32_precision", "ieee"))
        yield
