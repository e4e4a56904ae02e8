"""Models of other frameworks, known by their content: what they are, and what turns them into ONNX, which is read.

None of them is read here. A converter is named where one exists, with its command; where none does, what to ask for.
"""

from __future__ import annotations

import os
import re
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from robustkit.auditing._limits import Damaged

HEAD = 4096  # bytes of a file that are looked at
NAMES, OPENED = 4096, 200  # of a folder: names that are looked at, files that are opened
SHARD = re.compile(r"\.data-\d{5}-of-\d{5}$")
NODE = rb"\x0a[\x04-\xff][\x01-\x7f]?\x0a.[\w./-]+\x12.(?:Placeholder|Const|VarHandleOp)"
ORIGINAL = "ask for the PyTorch weights or the ONNX file that it was made of, since nothing turns it back"


@dataclass(frozen=True)
class Foreign:
    """A format of others: what a file or folder of it is, and what to do about it."""

    what: str
    remedy: str

    def refusal(self) -> Damaged:
        """Return the reason why it is not read."""
        return Damaged(f"is {self.what}", self.remedy)


def _tensorflow(what: str, option: str) -> Foreign:
    return Foreign(
        what, f"convert it to ONNX: python -m tf2onnx.convert {option} --output model.onnx --inputs-as-nchw INPUT"
    )


TFLITE = _tensorflow("a TensorFlow Lite model", "--tflite FILE")
SAVED_MODEL = _tensorflow("a TensorFlow SavedModel", "--saved-model FOLDER")
FROZEN = _tensorflow("a frozen TensorFlow graph", "--graphdef FILE --inputs INPUT --outputs OUTPUT")
TFJS = _tensorflow("a TensorFlow.js model", "--tfjs model.json")
CHECKPOINT = _tensorflow("a TensorFlow checkpoint", "--checkpoint NAME.meta --inputs INPUT --outputs OUTPUT")
KERAS = Foreign(
    "a Keras model", "convert it to ONNX: keras.models.load_model(FILE).export('model.onnx', format='onnx'), or tf2onnx"
)
HDF5 = _tensorflow("an HDF5 file, as Keras writes it", "--keras FILE")
COREML = Foreign(
    "a Core ML model",
    "convert it to ONNX with onnxmltools.convert_coreml, which takes neural networks and no ML programs, or ask for "
    "the model that it was made of",
)
OPENVINO = Foreign(
    "an OpenVINO model", "convert it to ONNX with openvino2onnx, or ask for the model that it was made of"
)
# Of a flatbuffer: the four bytes behind the first four.
FLATBUFFERS = {
    b"TFL3": TFLITE,
    b"ORTM": Foreign("a model in ONNX Runtime's own format", "give the .onnx file that it was made of"),
    b"PTMF": Foreign("a PyTorch Mobile model (flatbuffer)", ORIGINAL),
}
MAGIC = {
    b"ptrt": Foreign("a TensorRT engine", ORIGINAL),
    b"ftrt": Foreign("a TensorRT engine", ORIGINAL),
    b"\x89HDF": HDF5,
}
EXECUTORCH = Foreign("an ExecuTorch program", ORIGINAL)


def of_file(stream: BinaryIO, size: int, path: Path | None = None) -> Foreign | None:
    """Return which format of others a file has, by its content, and beside what it lies; None of what is known here."""
    stream.seek(0)
    head = stream.read(HEAD)
    stream.seek(0)
    known = FLATBUFFERS.get(head[4:8]) or MAGIC.get(head[:4])
    if known is not None:
        return known
    if re.fullmatch(rb"ET\d\d", head[4:8]):
        return EXECUTORCH
    if _is_ir(head):
        return OPENVINO
    if b'"modelTopology"' in head and head.lstrip()[:1] == b"{":
        return TFJS
    if _is_coreml(stream, size):
        return COREML
    if _is_saved_model(head, size):
        return SAVED_MODEL
    if _is_graph(head):
        return FROZEN
    return _by_neighbours(path) if path is not None else None


def of_archive(names: Collection[str]) -> Foreign | None:
    """Return which format of others a zip archive holds, by the names in it."""
    last = {name.rpartition("/")[2] for name in names}
    if "config.json" in last and any(name.endswith(".weights.h5") for name in last):
        return KERAS
    if any(name.endswith(".weights.h5") for name in last):
        return HDF5
    return _by_names(last, names)


def of_folder(folder: Path) -> Foreign | None:
    """Return which format of others a folder is, by the names in it and one level below."""
    names: list[str] = []
    for root, folders, files in os.walk(folder):
        names += [os.path.relpath(os.path.join(root, name), folder).replace(os.sep, "/") for name in [*files, *folders]]
        if root != str(folder) or len(names) > NAMES:
            folders.clear()
    found = _by_names({name.rpartition("/")[2] for name in names}, names)
    few = sorted(names)[:OPENED]
    return found or next((one for name in few if (one := _opened(folder / name)) is not None), None)


def _by_names(last: Collection[str], names: Sequence[str] | Collection[str]) -> Foreign | None:
    if "saved_model.pb" in last or "saved_model.pbtxt" in last:
        return SAVED_MODEL
    if "coremldata.bin" in last or any("com.apple.CoreML" in name for name in names):
        return COREML
    if any(SHARD.search(name) for name in last):
        return CHECKPOINT
    return None


def _by_neighbours(path: Path) -> Foreign | None:
    """Return what a file of bare numbers belongs to: another file beside it describes it, or its name counts it."""
    if SHARD.search(path.name):
        return CHECKPOINT
    if path.name == "coremldata.bin":
        return COREML
    if path.suffix.lower() != ".bin":
        return None
    for other, kind in ((path.with_suffix(".xml"), OPENVINO), (path.parent / "model.json", TFJS)):
        if _opened(other) is kind:
            return kind
    return None


def _opened(path: Path) -> Foreign | None:
    """Return what a regular file beside or below is; None where it cannot be opened."""
    try:
        if not path.is_file():
            return None
        with path.open("rb") as stream:
            return of_file(stream, path.stat().st_size)
    except OSError:
        return None


def _is_ir(head: bytes) -> bool:
    return head.lstrip(b"\xef\xbb\xbf \r\n\t")[:5] in (b"<?xml", b"<net ") and b"<net " in head and b"<layers" in head


def _is_coreml(stream: BinaryIO, size: int) -> bool:
    """Return whether a file is a Core ML Model message: its version, then fields, of which one is a kind of model.

    The kinds have numbers from 200 on; those of ONNX, which begins alike, end at 25.
    """
    place = 0
    for seen in range(8):
        stream.seek(place)
        piece = stream.read(20)
        tag, used = _varint(piece)
        value, more = _varint(piece[used:])
        if used == 0 or more == 0 or tag & 7 not in (0, 2) or (seen == 0 and (tag != 8 or not 1 <= value <= 20)):
            return False
        if tag >> 3 >= 200:
            return tag & 7 == 2 and place + used + more + value <= size and seen > 0
        place += used + more + (value if tag & 7 == 2 else 0)
        if place >= size:
            return False
    return False


def _is_saved_model(head: bytes, size: int) -> bool:
    """Return whether a file is a SavedModel message: its version 1, then a graph that begins with its own facts."""
    value, used = _varint(head[3:])
    return head[:3] == b"\x08\x01\x12" and 0 < 3 + used + value <= size and head[3 + used : 4 + used] == b"\x0a"


def _is_graph(head: bytes) -> bool:
    """Return whether a file begins as a GraphDef message: a node with a name and an operator."""
    return re.match(NODE, head, re.DOTALL) is not None


def _varint(data: bytes) -> tuple[int, int]:
    """Return a number and the bytes that it takes, 0 of them where there is none."""
    value = 0
    for at, byte in enumerate(data[:10]):
        value |= (byte & 127) << 7 * at
        if byte < 128:
            return value, at + 1
    return 0, 0
