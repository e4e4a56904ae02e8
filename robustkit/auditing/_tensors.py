"""Tensors as a file declares them, checked against the bytes that it has, and only then made."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from robustkit.auditing._limits import DIMS, TENSORS, Damaged, clean

STORAGES = {
    "FloatStorage": torch.float32, "DoubleStorage": torch.float64, "HalfStorage": torch.float16,
    "BFloat16Storage": torch.bfloat16, "LongStorage": torch.int64, "IntStorage": torch.int32,
    "ShortStorage": torch.int16, "CharStorage": torch.int8, "ByteStorage": torch.uint8, "BoolStorage": torch.bool,
    "UntypedStorage": torch.uint8, "ComplexFloatStorage": torch.complex64, "ComplexDoubleStorage": torch.complex128,
    "QInt8Storage": torch.qint8, "QUInt8Storage": torch.quint8, "QInt32Storage": torch.qint32,
    "QUInt4x2Storage": torch.quint4x2, "QUInt2x4Storage": torch.quint2x4,
}  # fmt: skip
READ = """
    float64 float32 float16 bfloat16 float8_e4m3fn float8_e5m2 float8_e4m3fnuz float8_e5m2fnuz float8_e8m0fnu
    int64 int32 int16 int8 uint64 uint32 uint16 uint8 bool
"""
# By their names, as far as this torch has them: 2.6 lacks float8_e8m0fnu.
DTYPES: dict[str, torch.dtype] = {
    f"torch.{name}": getattr(torch, name) for name in READ.split() if hasattr(torch, name)
}
# How a type is called: a file may hold one that no torch here has heard of, and a name is no code.
TYPE = re.compile(r"torch\.(?:b?float|b?complex|q?u?int|bits)\d\w*|torch\.(?:bool|half|bit)")
DENSE = "save the weights as dense float32 tensors"


@dataclass(frozen=True)
class StorageRef:
    """A run of ``numel`` elements that starts at element ``base`` of the record ``key``."""

    key: str
    dtype: torch.dtype
    numel: int
    base: int = 0


@dataclass(frozen=True)
class TensorRef:
    """A tensor that a file declares; ``problem`` says why it cannot be read (sparse, quantised, ...)."""

    storage: StorageRef | None
    offset: int = 0
    size: tuple[int, ...] = ()
    stride: tuple[int, ...] = ()
    dtype: torch.dtype = torch.float32
    problem: str = ""

    @property
    def numel(self) -> int:
        """Number of elements."""
        return math.prod(self.size)


def of_type(dtype: object) -> str:
    """Return the problem of a tensor whose type is not read."""
    return f"of the type {clean(dtype).removeprefix('torch.')}"


def check(name: str, ref: TensorRef, record_bytes: int) -> None:
    """Raise :class:`Damaged` unless the tensor lies inside its record and shows no element twice."""
    what = f"declares a tensor '{clean(name)}'"
    if ref.problem or ref.storage is None:
        # Cause: a network of dense float weights is attacked; sparse, quantised and nested tensors and those without
        # data have no such weights as they lie in the file.
        raise Damaged(f"{what} that is {ref.problem or 'without storage'}, which is not read", DENSE)
    if ref.dtype not in DTYPES.values():
        # Cause: numbers of this type (complex, packed bits, quantised) are no weights that a gradient could pass.
        raise Damaged(f"{what} that is {of_type(ref.dtype)}, which is not read", DENSE)
    if len(ref.size) != len(ref.stride) or len(ref.size) > DIMS or min((*ref.size, *ref.stride, ref.offset, 0)) < 0:
        raise Damaged(f"{what} of an impossible shape")
    itemsize = ref.dtype.itemsize
    held = ref.storage.numel * ref.storage.dtype.itemsize
    if ref.storage.base < 0 or held < 0 or ref.storage.base * ref.storage.dtype.itemsize + held > record_bytes:
        # Cause: the file was cut off, or declares more than it holds.
        raise Damaged(f"{what} whose storage of {clean(held, 30)} bytes is not in the file, which has {record_bytes}")
    last = ref.offset + sum((n - 1) * s for n, s in zip(ref.size, ref.stride, strict=True))
    if ref.numel and (last + 1) * itemsize > held:
        raise Damaged(f"{what} that reaches beyond its storage")
    if ref.numel * itemsize > held:
        raise Damaged(f"{what} of {clean(ref.numel, 30)} elements over a storage of {held} bytes")


def check_all(state: Mapping[str, TensorRef | Tensor], record_bytes: Callable[[str], int], allowed: int) -> None:
    """Check every tensor, and that together, as float32, they take no more than ``allowed`` bytes."""
    if len(state) > TENSORS:
        raise Damaged(f"holds {len(state)} tensors where at most {TENSORS} are read")
    total = 0
    for name, ref in state.items():
        if isinstance(ref, TensorRef):
            check(name, ref, record_bytes(ref.storage.key) if ref.storage else 0)
            total += ref.numel * max(4, ref.dtype.itemsize)
    if total > allowed:
        # Cause: many tensors share the same bytes, so that the weights would take far more memory than the file.
        raise Damaged(f"declares {total} bytes of weights, far more than the file holds")


def materialise(state: Mapping[str, TensorRef | Tensor], read: Callable[[str], bytes]) -> dict[str, Tensor]:
    """Return the tensors, each with memory of its own, reading every record once."""
    made: dict[str, Tensor] = {name: ref for name, ref in state.items() if isinstance(ref, Tensor)}
    by_record: dict[str, list[str]] = {}
    for name, ref in state.items():
        if isinstance(ref, TensorRef) and ref.storage:
            by_record.setdefault(ref.storage.key, []).append(name)
    for key, names in by_record.items():
        data = bytearray(read(key))
        for name in names:
            ref = state[name]
            assert isinstance(ref, TensorRef)
            made[name] = _one(ref, data)
    return {name: made[name] for name in state}


def _one(ref: TensorRef, data: bytearray) -> Tensor:
    if ref.numel == 0 or ref.storage is None:
        return torch.empty(ref.size, dtype=ref.dtype)
    start = ref.storage.base * ref.storage.dtype.itemsize
    dtype = torch.uint8 if ref.dtype is torch.bool else ref.dtype  # a bool byte other than 0 and 1 is undefined in C++
    count = ref.storage.numel * ref.storage.dtype.itemsize // dtype.itemsize
    flat = torch.frombuffer(data, dtype=dtype, offset=start, count=count)
    own = flat.as_strided(ref.size, ref.stride, ref.offset).clone(memory_format=torch.contiguous_format)
    return own != 0 if ref.dtype is torch.bool else own


def integers(values: object) -> tuple[int, ...]:
    """Return a shape or stride from a file as a tuple of ints below 2**48; :class:`Damaged` where it is none."""
    if not isinstance(values, tuple | list) or len(values) > DIMS:
        raise Damaged("declares a tensor of an impossible shape")
    return tuple(integer(value) for value in values)


def integer(value: object) -> int:
    """Return an int in [0, 2**48); :class:`Damaged` where it is none."""
    if not isinstance(value, int) or isinstance(value, bool) or not 0 <= value < 1 << 48:
        raise Damaged("declares a tensor of an impossible shape")
    return value


def contiguous(size: Iterable[int]) -> tuple[int, ...]:
    """Return the strides of a contiguous tensor."""
    strides: list[int] = []
    step = 1
    for n in reversed(tuple(size)):
        strides.insert(0, step)
        step *= max(n, 1)
    return tuple(strides)
