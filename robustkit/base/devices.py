"""Which device a name stands for."""

from __future__ import annotations

import torch

from robustkit.base.errors import UserError

ACCEPTED = "cpu, cuda, cuda:0, mps or auto"


def find_device(name: str) -> torch.device:
    """Return the device of that name; ``auto`` is CUDA where there is one, else the CPU.

    Apple's GPU is taken where ``mps`` names it. It has no float64, so that what needs that is computed on the CPU there
    or in float32 (:func:`robustkit.functional.precision.wide`).
    """
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        device = torch.device(name)
    except RuntimeError:
        raise UserError(f"device '{name}' is unknown; write {ACCEPTED}.") from None
    if device.type == "cuda" and (device.index or 0) >= torch.cuda.device_count():
        found = torch.cuda.device_count()
        raise UserError(f"device '{name}' is asked for, but torch sees {found} CUDA devices; use --device cpu.")
    if device.type == "mps" and (not torch.backends.mps.is_available() or device.index):
        found = int(torch.backends.mps.is_available())
        raise UserError(f"device '{name}' is asked for, but torch sees {found} MPS devices; use --device cpu.")
    if device.type not in ("cpu", "cuda", "mps"):
        raise UserError(f"device '{name}' is not supported; write {ACCEPTED}.")
    return device
