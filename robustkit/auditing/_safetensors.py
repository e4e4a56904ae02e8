"""safetensors: a length, a JSON header, raw bytes. The header is checked against the file before a tensor is made."""

from __future__ import annotations

import math
import struct
from typing import BinaryIO

from robustkit.auditing._limits import JSON_BYTES, Damaged, clean, parse_json
from robustkit.auditing._tensors import DTYPES as TORCH
from robustkit.auditing._tensors import StorageRef, TensorRef, contiguous, integer, integers, of_type

NAMES = {
    "F64": "float64", "F32": "float32", "F16": "float16", "BF16": "bfloat16", "F8_E4M3": "float8_e4m3fn",
    "F8_E5M2": "float8_e5m2", "F8_E4M3FNUZ": "float8_e4m3fnuz", "F8_E5M2FNUZ": "float8_e5m2fnuz",
    "F8_E8M0": "float8_e8m0fnu", "I64": "int64", "I32": "int32", "I16": "int16", "I8": "int8", "U64": "uint64",
    "U32": "uint32", "U16": "uint16", "U8": "uint8", "BOOL": "bool",
}  # fmt: skip
DTYPES = {ours: TORCH[f"torch.{name}"] for ours, name in NAMES.items() if f"torch.{name}" in TORCH}


def is_safetensors(head: bytes, size: int) -> bool:
    """Return whether a file begins as safetensors: a length that fits, then an opening brace."""
    return len(head) > 8 and head[8:9] == b"{" and 2 <= struct.unpack("<Q", head[:8])[0] <= size - 8


class SafeTensors:
    """A safetensors file: what its header declares, and the bytes behind it."""

    def __init__(self, stream: BinaryIO, size: int) -> None:
        stream.seek(0)
        length = struct.unpack("<Q", stream.read(8))[0]
        if length > JSON_BYTES:
            raise Damaged(f"has a safetensors header of {length} bytes, {JSON_BYTES} at most are read")
        header = parse_json(stream.read(length))
        self._stream, self._start = stream, 8 + length
        self._places: dict[str, tuple[int, int]] = {}
        self.state: dict[str, TensorRef] = {}
        for name, row in header.items():
            if name != "__metadata__":
                self.state[name] = self._declared(name, row)
        end = 0
        for begin, stop in sorted(self._places.values()):
            if begin != end:
                raise Damaged("has a safetensors header whose tensors overlap or leave gaps")
            end = stop
        if end != size - self._start:
            raise Damaged(f"holds {size - self._start} bytes of tensors where its header declares {end} (cut off?)")
        self.tied = self._name_tied(header.get("__metadata__"))

    def _name_tied(self, metadata: object) -> list[str]:
        """Give tied weights all their names: ``save_model`` writes one, and in the metadata which others mean it."""
        pairs = metadata.items() if isinstance(metadata, dict) else ()
        known = dict(self.state)
        tied = [(name, kept) for name, kept in pairs if isinstance(kept, str) and kept in known and name not in known]
        self.state.update({name: known[kept] for name, kept in tied})
        return [name for name, _ in tied]

    def _declared(self, name: str, row: object) -> TensorRef:
        fields = row if isinstance(row, dict) else {}
        offsets, shape = fields.get("data_offsets"), fields.get("shape")
        if not isinstance(offsets, list) or len(offsets) != 2 or not isinstance(shape, list):
            raise Damaged(f"has a safetensors header without shape or place of '{clean(name)}'")
        begin, stop = integer(offsets[0]), integer(offsets[1])
        self._places[name] = begin, stop
        dtype = DTYPES.get(str(fields.get("dtype")))
        if dtype is None:
            return TensorRef(None, problem=of_type(fields.get("dtype")))
        size = integers(shape)
        if math.prod(size) * dtype.itemsize != stop - begin:
            raise Damaged(f"declares '{clean(name)}' with shape {size} over {stop - begin} bytes")
        return TensorRef(StorageRef(name, dtype, math.prod(size)), 0, size, contiguous(size), dtype)

    def size(self, key: str) -> int:
        """Return how many bytes a tensor has."""
        begin, stop = self._places[key]
        return stop - begin

    def read(self, key: str) -> bytes:
        """Return a tensor's bytes."""
        self._stream.seek(self._start + self._places[key][0])
        return self._stream.read(self.size(key))
