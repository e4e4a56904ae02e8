"""What CUDA refuses, where the host waits for it, how it rounds, and what it says when memory runs out."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

aten = torch.ops.aten
CUDA = torch.device("cuda", 0)
Belongs = Callable[[object], bool]

NO_NUMPY = "can't convert cuda:0 device type tensor to numpy. Use Tensor.cpu() to copy the tensor to host memory first."
NO_PINNING = "cannot pin 'torch.cuda.FloatTensor' only dense CPU tensors can be pinned"
MIXED = "Expected all tensors to be on the same device, but found at least two devices, cuda:0 and cpu! (in {})"
HOST_INDEXED = "indices should be either on cpu or on the same device as the indexed tensor (cpu)"
FUSED = "params, grads, exp_avgs, and exp_avg_sqs must have same dtype, device, and layout"

TWO_DEVICES = {aten.copy_, aten._to_copy, aten._copy_from, aten.pin_memory, aten._pin_memory}  # may see both
INDEXING = {aten.index, aten.index_put, aten.index_put_, aten._index_put_impl_, aten._unsafe_index}
WRITING = {aten.index_put, aten.index_put_, aten._index_put_impl_}
FUSED_STEPS = {aten._fused_adam_, aten._fused_adamw_, aten._fused_sgd_}
READ_BACK = {  # a value or a size comes back to the host
    aten._local_scalar_dense, aten.equal, aten.nonzero, aten.masked_select, aten._unique2, aten.unique_dim,
    aten.unique_consecutive, aten.is_nonzero, aten.bincount, aten.repeat_interleave, aten.multinomial,
}  # fmt: skip
FREE = {aten.detach, aten.alias, aten.lift_fresh, aten._unsafe_view, aten._local_scalar_dense}  # launch nothing
AUTOCAST = {  # which functions autocast computes in reduced precision
    torch.conv1d, torch.conv2d, torch.conv3d, functional.conv1d, functional.conv2d, functional.conv3d,
    functional.linear, torch.matmul, torch.bmm, torch.mm, Tensor.matmul, Tensor.__matmul__, torch.addmm,
}  # fmt: skip
PRODUCTS = {aten.mm, aten.bmm, aten.addmm, aten.baddbmm}
CONVOLUTIONS = {aten.convolution, aten.convolution_backward}


def _allocator(size: int, total: int, free: int) -> Exception:
    return torch.OutOfMemoryError(
        f"CUDA out of memory. Tried to allocate {size / 2**20:.2f} MiB. GPU 0 has a total capacity of "
        f"{total / 2**20:.2f} MiB of which {free / 2**20:.2f} MiB is free."
    )


SHORTAGES: dict[str, Callable[[int, int, int], Exception]] = {
    "allocator": _allocator,
    "cudnn": lambda *_: RuntimeError("GET was unable to find an engine to execute this computation"),
    "cudnn find": lambda *_: RuntimeError("FIND was unable to find an engine to execute this computation"),
    "cudnn status": lambda *_: RuntimeError("cuDNN error: CUDNN_STATUS_ALLOC_FAILED"),
    "cublas": lambda *_: RuntimeError("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`"),
    "driver": lambda *_: RuntimeError("CUDA error: out of memory\nCUDA kernel errors might be reported later"),
}


def indexed(value: object) -> object:
    """Return a device, where the value names CUDA without an index, with one; anything else as it is."""
    if isinstance(value, str) and value.startswith("cuda") or isinstance(value, torch.device) and value.type == "cuda":
        return torch.device("cuda", torch.device(value).index or 0)
    return value


def target(kwargs: dict[str, Any], own: int = 0) -> torch.device | None:
    """Return the device that an operator is asked for; a wrapper's own options say "meta", which is where it is."""
    wanted = kwargs.get("device")
    if wanted is None:
        return None
    place = torch.device(wanted)
    return torch.device("cuda", place.index or 0 if place.type == "cuda" else own) if place.type != "cpu" else place


@functools.cache
def only_a_view(func: Any) -> bool:
    """Return whether an operator launches nothing on the device."""
    return func.is_view or func.overloadpacket in FREE


def check(
    func: Any, args: Any, kwargs: dict[str, Any], tensors: list[Tensor], ours: list[bool],
    wanted: torch.device | None, belongs: Belongs,
) -> None:  # fmt: skip
    """Raise what CUDA raises for this call.

    Parameters
    ----------
    tensors, ours
        Every tensor among the arguments, and whether it is on the device.
    wanted
        The device that the call names.
    belongs
        Whether a value is a tensor on the device.
    """
    lost = [v for v, own in zip(tensors, ours, strict=True) if not own and v.device.type == "meta"]
    assert not lost, f"{func}: C++ made a tensor where it believes the wrapper to be, and its values are lost"
    packet, generator = func.overloadpacket, kwargs.get("generator")
    if generator is not None and generator.device.type == "cpu" and (wanted is None or wanted.type == "cuda"):
        raise RuntimeError("Expected a 'cuda' device type for generator but found 'cpu'")
    if packet in (aten.pin_memory, aten._pin_memory):
        raise RuntimeError(NO_PINNING)
    if packet in INDEXING:
        indices = [index for index in args[1] if index is not None]
        if not belongs(args[0]) and any(map(belongs, indices)):
            raise RuntimeError(HOST_INDEXED)
        values = args[2] if packet in WRITING else args[0]
        if values.dim() and belongs(values) != belongs(args[0]):
            raise RuntimeError(MIXED.format(func))
    elif packet not in TWO_DEVICES and any(ours):
        of_host = [v for v, own in zip(tensors, ours, strict=True) if not own]
        if of_host and (not _pointwise(func) or any(v.dim() for v in of_host)):
            raise RuntimeError(MIXED.format(func))
    if packet in FUSED_STEPS:
        lists = [part for part in args[:4] if isinstance(part, list | tuple) and part]
        if any(len({_layout(t) for t in row if t.dim()}) > 1 for row in zip(*lists, strict=True)):
            raise RuntimeError(FUSED)


@functools.cache
def _pointwise(func: Any) -> bool:
    """Return whether an operator takes a number from the host, too."""
    return torch.Tag.pointwise in func.tags


def _layout(tensor: Tensor) -> tuple[int, ...]:
    return tuple(stride for stride, length in zip(tensor.stride(), tensor.shape, strict=True) if length > 1)


def traffic(
    func: Any, args: Any, kwargs: dict[str, Any], ours: bool, wanted: torch.device | None, belongs: Belongs
) -> tuple[list[str], list[str]]:
    """Return which copies between host and device a call makes, and why the host waits for it."""
    packet = func.overloadpacket
    if packet in READ_BACK and ours:
        return [], [packet.__name__]
    if packet is aten._to_copy and wanted is not None and (wanted.type == "cpu") == belongs(args[0]):
        what = "to the host" if belongs(args[0]) else "to the device"
        # A copy from pageable memory is staged by the host, whatever it was asked for.
        apart = kwargs.get("non_blocking") and hasattr(args[0], "pinned")
        return [what], [] if apart else [what]
    if packet is aten.copy_ and belongs(args[0]) != belongs(args[1]):
        what = "to the device" if belongs(args[0]) else "to the host"
        return [what], [what]
    if packet in INDEXING and belongs(args[0]):
        indices = [index for index in args[1] if index is not None]
        host = [index for index in indices if not belongs(index)]
        filled = packet in WRITING and args[2].numel() == 1  # becomes masked_fill
        masked = any(index.dtype in (torch.bool, torch.uint8) for index in indices) and not filled
        return ["index to the device"] * len(host), ["mask"] * masked + ["index to the device"] * len(host)
    return [], []


def written(func: Any, args: Any, kwargs: dict[str, Any]) -> Any:
    """Return the very objects that an in-place operator wrote to, as it has to return them; None for others."""
    places, alone = _written(func)
    if not places:
        return None
    changed = [kwargs[name] if name in kwargs else args[i] if i < len(args) else None for i, name in places]
    return changed[0] if alone else tuple(changed)


@functools.cache
def _written(func: Any) -> tuple[tuple[tuple[int, str], ...], bool]:
    """Return which arguments an in-place operator writes to, by place and name, and whether it returns one value."""
    schema = func._schema
    returns = schema.returns
    if not returns or not all(r.alias_info is not None and r.alias_info.is_write for r in returns):
        return (), False
    places = enumerate(schema.arguments)
    found = tuple((i, a.name) for i, a in places if a.alias_info is not None and a.alias_info.is_write)
    return found, len(returns) == 1


def rounded(func: Any, args: Any) -> tuple[Any, Any]:
    """Return an operator and arguments whose result on the CPU is rounded as CUDA's."""
    packet = func.overloadpacket
    if packet in (aten.div, aten.div_) and isinstance(args[1], int | float) and args[0].dtype == torch.float32:
        inverse = float(1 / torch.tensor(float(args[1])))
        return (aten.mul if packet is aten.div else aten.mul_).Tensor, (args[0], inverse)
    if packet in CONVOLUTIONS and allows_tf32("conv") or packet in PRODUCTS and allows_tf32("matmul"):
        return func, tuple(tf32(arg) if isinstance(arg, Tensor) else arg for arg in args)
    return func, args


def allows_tf32(what: str) -> bool:
    """Return whether torch's flags let convolutions ("conv") or products ("matmul") be computed in TF32."""
    module = torch.backends.cudnn if what == "conv" else torch.backends.cuda.matmul
    newer = getattr(module, "conv", module)  # torch 2.9 and later
    if hasattr(newer, "fp32_precision"):
        return str(newer.fp32_precision) == "tf32"
    return bool(module.allow_tf32)


def tf32(x: Tensor) -> Tensor:
    """Return float32 rounded to the 10 bits of mantissa that tensor cores read, to nearest even."""
    if x.dtype != torch.float32:
        return x
    bits = x.contiguous().view(torch.int32)
    kept = (bits + 0xFFF + ((bits >> 13) & 1)) & ~0x1FFF
    return kept.view(torch.float32).view(x.shape)
