"""In which precision losses and maps are computed, whatever the networks were run in."""

from __future__ import annotations

import torch
from torch import Tensor


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
