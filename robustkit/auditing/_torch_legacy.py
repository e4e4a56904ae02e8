"""PyTorch's format before 1.6: five pickles, then each storage as a count and raw bytes. Read as data."""

from __future__ import annotations

import io
import struct
from typing import Any, BinaryIO

from robustkit.auditing._limits import PICKLE_BYTES, Damaged, clean
from robustkit.auditing._pickle import parse

MAGIC = b"\x8a\x0a" + 0x1950A86A20F9469CFC6C.to_bytes(10, "little")  # LONG1, behind PROTO and its version


class Legacy:
    """A legacy file: its object as plain data, and where each storage lies."""

    def __init__(self, stream: BinaryIO, size: int) -> None:
        stream.seek(0)
        head = io.BytesIO(stream.read(min(size, PICKLE_BYTES)))
        parse(head)
        version, system = parse(head), parse(head)
        if version != 1001 or not isinstance(system, dict) or system.get("little_endian") is not True:
            raise Damaged("is a PyTorch file of an unknown version or from a big-endian machine")
        itemsize: dict[str, int] = {}
        self.tree: Any = parse(head, itemsize=itemsize)
        keys = parse(head)
        self._stream = stream
        self._places: dict[str, tuple[int, int]] = {}
        offset = head.tell()
        for key in keys if isinstance(keys, list) else ():
            key = key if isinstance(key, str) else str(key)
            stream.seek(offset)
            count = stream.read(8)
            if len(count) < 8:
                # Cause: the download or the copy stopped early.
                raise Damaged("ends before its last tensor (cut off?)")
            nbytes: int = struct.unpack("<q", count)[0] * itemsize.get(key, 1)
            if nbytes < 0 or offset + 8 + nbytes > size:
                # Cause: the download or the copy stopped early.
                raise Damaged(f"ends before its tensor storage '{clean(key)}' does (cut off?)")
            if key in self._places:
                raise Damaged("names a tensor storage twice")
            self._places[key] = (offset + 8, nbytes)
            offset += 8 + nbytes
        if offset != size:
            # Cause: the file was changed or joined with another.
            raise Damaged(f"has {size - offset} bytes behind its last tensor")

    def size(self, key: str) -> int:
        """Return how many bytes a storage has, 0 where it is missing."""
        return self._places.get(key, (0, 0))[1]

    def read(self, key: str) -> bytes:
        """Return a storage's bytes."""
        offset, nbytes = self._places[key]
        self._stream.seek(offset)
        return self._stream.read(nbytes)


def is_legacy(head: bytes) -> bool:
    """Return whether a file begins as ``torch.save`` wrote it before 1.6."""
    framed = head[2:3] == b"\x95"  # FRAME and its length, from protocol 4 on
    return head[:1] == b"\x80" and head[11 if framed else 2 :].startswith(MAGIC)
