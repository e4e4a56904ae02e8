"""From the host to a device: images that nobody waits for, and models that may not fit."""

from __future__ import annotations

from typing import TypeVar

import torch
from torch import Tensor, nn

from robustkit.base.devices import GIB, free_on
from robustkit.base.errors import RunError
from robustkit.functional.batching import out_of_memory

Module = TypeVar("Module", bound=nn.Module)


def sent(values: Tensor, device: torch.device) -> Tensor:
    """Return values on a device; to a GPU from pinned memory, so that the copy runs beside the work in flight."""
    if device.type != "cuda" or values.device.type != "cpu":
        return values.to(device)
    return values.pin_memory().to(device, non_blocking=True)


def moved(module: Module, device: torch.device) -> Module:
    """Return a module once it is on a device; a :class:`RunError` says how much was free where it does not fit."""
    try:
        return module.to(device)
    except RuntimeError as error:
        if not out_of_memory(error):
            raise
        size = sum(t.nbytes for t in (*module.parameters(), *module.buffers()))
    raise RunError(
        f"a model of {size / GIB:.2f} GiB does not fit: {free_on(device)}; evaluate fewer models at a time, or use "
        "another --device."
    )
