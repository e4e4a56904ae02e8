"""Which device a name stands for, whether it can be begun on, and what it is called."""

from __future__ import annotations

import torch

from robustkit.base.errors import UserError

ALL = "cuda:all"
ACCEPTED = f"cpu, cuda, cuda:1, {ALL}, mps or auto"
LEAST = 2**28  # bytes: with less than that free on a GPU, no network and no batch of images finds room
GIB = 2**30


def find_device(name: str) -> torch.device:
    """Return the device of that name; ``auto`` is CUDA where there is one, else the CPU.

    Apple's GPU is taken where ``mps`` names it. It has no float64, so that what needs that is computed on the CPU there
    or in float32 (:func:`robustkit.functional.precision.wide`).

    Raises
    ------
    UserError
        If there is no such device, if it is a GPU that is full, or if the name is that of several.
    """
    if name == ALL:
        raise UserError(f"device '{name}' is for evaluate and audit; name one GPU here, like cuda:0.")
    return find_devices(name)[0]


def find_devices(name: str) -> tuple[torch.device, ...]:
    """Return the devices of that name: all GPUs of ``cuda:all``, else the one of :func:`find_device`."""
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "cpu"
    if name == ALL:
        found = tuple(torch.device("cuda", index) for index in range(torch.cuda.device_count()))
        if not found:
            raise _absent(name)
    else:
        try:
            found = (torch.device(name),)
        except RuntimeError:
            raise UserError(f"device '{name}' is unknown; write {ACCEPTED}.") from None
    for device in found:
        _check(device, name)
    return found


def _check(device: torch.device, name: str) -> None:
    """Raise a :class:`UserError` unless work can begin on a device."""
    if device.type not in ("cpu", "cuda", "mps") or device.type == "cpu" and device.index is not None:
        raise UserError(f"device '{name}' is not supported; write {ACCEPTED}.")
    if device.type == "cuda":
        if (device.index or 0) >= torch.cuda.device_count():
            raise _absent(name)
        try:
            free = torch.cuda.mem_get_info(device)[0]
        except RuntimeError as error:  # full to the last byte, or held by another process alone
            said = " ".join(str(error).split())[:200]
            # Cause: another process has the GPU for itself, or its driver does not answer.
            raise UserError(f"device '{name}' cannot be used ({said}); use another --device.") from None
        if free < LEAST:
            # Cause: other processes, or a run that was not ended, have what memory the GPU has.
            raise UserError(
                f"{free_on(device)}, too little to begin; end what fills it (nvidia-smi shows it), or use another "
                "--device."
            )
    if device.type == "mps" and (not torch.backends.mps.is_available() or device.index):
        found = int(torch.backends.mps.is_available())
        raise UserError(f"device '{name}' is asked for, but torch sees {found} MPS devices; use --device cpu.")


def _absent(name: str) -> UserError:
    count = torch.cuda.device_count()
    if not count:
        why = "" if torch.version.cuda else ", since it was built without CUDA"
        return UserError(f"device '{name}' is asked for, but torch sees 0 CUDA devices{why}; use --device cpu.")
    there = ", ".join(free_on(torch.device("cuda", index)) for index in range(count))
    return UserError(f"device '{name}' is asked for, but torch sees {count} CUDA devices: {there}; use one of these.")


def free_on(device: torch.device) -> str:
    """Return in words how much of a GPU's memory is free: ``cuda:0 (NVIDIA H200) has 1.0 of 139.8 GiB free``."""
    try:
        free, total = torch.cuda.mem_get_info(device)
    except RuntimeError:
        return f"{device} tells nothing of its memory"
    return f"{device} ({torch.cuda.get_device_name(device)}) has {free / GIB:.1f} of {total / GIB:.1f} GiB free"


def machine(device: torch.device) -> str:
    """Return the kind of a device, for what is remembered of its speed or its numbers.

    GPUs of one name share it; a home that several machines share holds what each kind of GPU has chosen.
    """
    return f"cuda {torch.cuda.get_device_name(device)}" if device.type == "cuda" else device.type
