"""PyTorch's zip archives read as data: ``torch.save``, and the weights inside TorchScript and ``torch.export`` files.

The archive is checked before anything in it is read: size of the directory, number of entries, names that occur twice,
entries that overlap, what compressed entries would inflate to. Every record that is read is held against its CRC-32
(``torch.load`` does not look at it), so a flipped bit in these weights is noticed.
"""

from __future__ import annotations

import io
import struct
import zipfile
from typing import Any, BinaryIO

from robustkit.auditing import _pickle
from robustkit.auditing._limits import (
    MIB,
    NESTING,
    PICKLE_BYTES,
    ZIP_DIRECTORY_BYTES,
    ZIP_ENTRIES,
    ZIP_INFLATED_BYTES,
    ZIP_RATIO,
    Damaged,
    clean,
    parse_json,
)
from robustkit.auditing._tensors import DTYPES, StorageRef, TensorRef, integer, of_type

END, END64, LOCATOR64 = b"PK\x05\x06", b"PK\x06\x06", b"PK\x06\x07"
PT2_TYPES = {
    1: "uint8", 2: "int8", 3: "int16", 4: "int32", 5: "int64", 6: "float16", 7: "float32", 8: "float64", 9: "complex32",
    10: "complex64", 11: "complex128", 12: "bool", 13: "bfloat16", 28: "uint16", 29: "float8_e4m3fn",
    30: "float8_e5m2", 31: "float8_e4m3fnuz", 32: "float8_e5m2fnuz", 33: "float8_e8m0fnu", 34: "uint32", 35: "uint64",
}  # fmt: skip


class Archive:
    """A checked zip file: names below its root folder, their sizes, their bytes."""

    def __init__(self, stream: BinaryIO, size: int) -> None:
        _check_directory(stream, size)
        try:
            self._zip = zipfile.ZipFile(stream)
        except Exception as error:  # zipfile raises struct.error, UnicodeDecodeError, ... on a garbled directory
            raise Damaged(f"is a damaged zip archive ({clean(error)})") from None
        infos = [info for info in self._zip.infolist() if not info.filename.endswith("/")]
        _check_entries(infos, size)
        roots = {info.filename.partition("/")[0] for info in infos if "/" in info.filename}
        self.root = roots.pop() + "/" if len(roots) == 1 else ""
        self._infos = {info.filename.removeprefix(self.root): info for info in infos}

    def __contains__(self, name: str) -> bool:
        return name in self._infos

    def names(self) -> list[str]:
        """Return the names of all entries."""
        return list(self._infos)

    def size(self, name: str) -> int:
        """Return how many bytes an entry has, 0 where it is missing."""
        return self._infos[name].file_size if name in self._infos else 0

    def read(self, name: str, limit: int | None = None) -> bytes:
        """Return an entry's bytes, held against its checksum."""
        if name not in self._infos:
            raise Damaged(f"lacks its record '{clean(name)}'")
        if limit is not None and self.size(name) > limit:
            raise Damaged(
                f"holds a '{clean(name)}' of {self.size(name) / MIB:.0f} MiB, {limit // MIB} at most are read"
            )
        try:
            return self._zip.read(self._infos[name])
        except Exception as error:  # BadZipFile, zlib.error, EOFError, NotImplementedError, ...
            raise Damaged(f"is a damaged zip archive ({clean(error)})") from None

    def tree(self, name: str, *, torchscript: bool = False) -> Any:
        """Return a pickle in the archive as plain data."""
        return _pickle.parse(io.BytesIO(self.read(name, PICKLE_BYTES)), torchscript=torchscript)

    def check_byte_order(self) -> None:
        """Raise :class:`Damaged` where the weights are big-endian."""
        if "byteorder" in self and self.read("byteorder", 64) != b"little":
            # Cause: its numbers lie the other way round.
            raise Damaged("was written on a big-endian machine", "save it again on a little-endian one")


def _check_directory(stream: BinaryIO, size: int) -> None:
    """Bound the central directory before ``zipfile`` makes an object of every entry in it."""
    stream.seek(max(0, size - 98))
    tail = stream.read(98)
    end, locator = tail[-22:], tail[-42:-22]
    if len(end) < 22 or end[:4] != END or end[20:] != b"\0\0":
        # Cause: the download or the copy stopped early.
        raise Damaged("begins as a zip archive and does not end as one (cut off?)")
    entries, length = struct.unpack("<HI", end[10:16])
    if locator[:4] == LOCATOR64:
        if tail[:4] != END64:
            raise Damaged("is a damaged zip archive (its zip64 record is missing)")
        entries, length = struct.unpack("<QQ", tail[32:48])
    if entries > ZIP_ENTRIES or length > ZIP_DIRECTORY_BYTES or length > size:
        raise Damaged(f"is a zip archive of {entries} entries, {ZIP_ENTRIES} at most are read")


def _check_entries(infos: list[zipfile.ZipInfo], size: int) -> None:
    if len(infos) > ZIP_ENTRIES:
        raise Damaged(f"is a zip archive of {len(infos)} entries, {ZIP_ENTRIES} at most are read")
    if len({info.filename for info in infos}) < len(infos):
        # Cause: the archive was changed: two programs would read two different files of that name.
        raise Damaged("is a zip archive in which a name occurs twice")
    if sum(info.compress_size for info in infos) > size:
        # Cause: the download or the copy stopped early, or the archive was made to deceive.
        raise Damaged("is a zip archive whose entries overlap or are cut off")
    inflated = 0
    for info in infos:
        if info.flag_bits & 1 or info.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
            raise Damaged("is a zip archive with encrypted or unusually compressed entries")
        if info.compress_type == zipfile.ZIP_STORED:
            if info.file_size != info.compress_size:
                raise Damaged("is a zip archive whose entries have two sizes")
            continue
        inflated += info.file_size
        if inflated > ZIP_INFLATED_BYTES or info.file_size > ZIP_RATIO * max(info.compress_size, 1024):
            # Cause: torch.save compresses nothing; what inflates a hundredfold is no checkpoint.
            raise Damaged(f"would inflate to {inflated / MIB:.0f} MiB and more from {size / MIB:.2f} (a zip bomb?)")


def kind(archive: Archive) -> str:
    """Return ``torch``, ``TorchScript``, ``torch.export``, or "" where the archive is none of them."""
    if "models/model.json" in archive or "serialized_exported_program.json" in archive:
        return "torch.export"
    if "data.pkl" in archive:
        return "TorchScript" if "constants.pkl" in archive else "torch"
    return ""


def script_state(archive: Archive) -> dict[str, TensorRef]:
    """Return the tensors in TorchScript's attribute tree by their dotted path, without loading its code."""
    found: dict[str, TensorRef] = {}
    pending = [("", archive.tree("data.pkl", torchscript=True), 0)]
    seen: set[int] = set()
    while pending:
        prefix, node, depth = pending.pop()
        if isinstance(node, TensorRef):
            found[prefix.removesuffix(".")] = node
        elif isinstance(node, _pickle.Thing) and isinstance(node.state, dict):
            if id(node) in seen or depth > 8 * NESTING:  # a module that is shared, or a loop
                continue
            seen.add(id(node))
            pending += [(f"{prefix}{key}.", value, depth + 1) for key, value in reversed(node.state.items())]
    return found


def export_state(archive: Archive) -> dict[str, TensorRef]:
    """Return the weights in a ``torch.export`` file by their names, from its JSON and raw records alone."""
    config = parse_json(archive.read("data/weights/model_weights_config.json"))
    found: dict[str, TensorRef] = {}
    try:
        for name, row in config["config"].items():
            record, meta = f"data/weights/{row['path_name']}", row["tensor_meta"]
            kind = PT2_TYPES.get(meta["dtype"], f"number {meta['dtype']}")
            if row["use_pickle"] or f"torch.{kind}" not in DTYPES:
                found[name] = TensorRef(None, problem="pickled" if row["use_pickle"] else of_type(kind))
                continue
            dtype = DTYPES[f"torch.{kind}"]
            size, stride = (tuple(integer(n["as_int"]) for n in meta[key]) for key in ("sizes", "strides"))
            storage = StorageRef(record, dtype, archive.size(record) // dtype.itemsize)
            found[name] = TensorRef(storage, integer(meta["storage_offset"]["as_int"]), size, stride, dtype)
    except (KeyError, TypeError, AttributeError, IndexError) as error:
        raise Damaged(f"holds a list of weights that cannot be read ({clean(repr(error))})") from None
    return found
