"""Which device a name stands for."""

from __future__ import annotations

import torch

from robustkit.base.errors import UserError


def find_device(name: str) -> torch.device:
    """Return the device of that name; ``auto`` is CUDA where there is one, else the CPU."""
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        device = torch.device(name)
    except RuntimeError:
        raise UserError(f"device '{name}' is unknown; write cpu, cuda, cuda:0 or auto.") from None
    if device.type == "cuda" and (device.index or 0) >= torch.cuda.device_count():
        found = torch.cuda.device_count()
        raise UserError(f"device '{name}' is asked for, but torch sees {found} CUDA devices; use --device cpu.")
    if device.type not in ("cpu", "cuda"):
        raise UserError(f"device '{name}' is not supported; write cpu, cuda, cuda:0 or auto.")
    return device
