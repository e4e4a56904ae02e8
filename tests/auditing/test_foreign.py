"""Models of other frameworks are named, with the converter that exists; nothing of ours is taken for one of them."""

from __future__ import annotations

import io
import zipfile
from pathlib import Path

import pytest
import torch

from robustkit.auditing import _foreign
from robustkit.auditing.reading import read
from robustkit.base.errors import UserError


def field(number: int, value: int | bytes) -> bytes:
    """Return one field of a protocol buffer message."""

    def varint(n: int) -> bytes:
        return bytes([n & 127 | 128]) + varint(n >> 7) if n > 127 else bytes([n])

    if isinstance(value, int):
        return varint(number << 3) + varint(value)
    return varint(number << 3 | 2) + varint(len(value)) + value


def zipped(*names: str) -> bytes:
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w") as archive:
        for name in names:
            archive.writestr(name, b"{}")
    return stream.getvalue()


def coreml(version: int, kind: int, described: int = 30) -> bytes:
    """Return a Model message: its version, a description of its inputs, and the model of some kind."""
    inputs = field(1, field(1, b"image") + field(3, bytes(described)))
    return field(1, version) + field(2, inputs) + field(10, 1) + field(kind, bytes(200))


IR = b'<?xml version="1.0"?>\n<net name="resnet" version="11">\n\t<layers>\n\t\t<layer id="0"/>\n\t</layers>\n</net>\n'
NODE = field(1, field(1, b"input/x") + field(2, b"Placeholder"))
# Content, what it is, and the converter.
FILES = {
    "TensorFlow Lite": (b"\x1c\0\0\0TFL3" + bytes(100), "a TensorFlow Lite model", "tf2onnx.convert --tflite"),
    "Core ML": (coreml(4, 403), "a Core ML model", "onnxmltools.convert_coreml"),
    "Core ML with a long description": (coreml(4, 500, 9000), "a Core ML model", "onnxmltools.convert_coreml"),
    "Core ML program": (coreml(9, 502), "a Core ML model", "no ML programs"),
    "SavedModel": (field(1, 1) + field(2, field(1, b"serve") + bytes(50)), "a TensorFlow SavedModel", "--saved-model"),
    "frozen graph": (NODE + NODE, "a frozen TensorFlow graph", "tf2onnx.convert --graphdef"),
    "TensorFlow.js": (b'{"format": "graph-model", "modelTopology": {}}', "a TensorFlow.js model", "--tfjs"),
    "OpenVINO": (IR, "an OpenVINO model", "openvino2onnx"),
    "Keras": (zipped("config.json", "metadata.json", "model.weights.h5"), "a Keras model", "format='onnx'"),
    "Keras weights": (zipped("vars/a.weights.h5"), "an HDF5 file", "tf2onnx.convert --keras"),
    "Keras HDF5": (b"\x89HDF\r\n\x1a\n" + bytes(100), "an HDF5 file, as Keras writes it", "tf2onnx.convert --keras"),
    "SavedModel, zipped": (zipped("m/saved_model.pb", "m/variables/variables.index"), "SavedModel", "--saved-model"),
    "Core ML package, zipped": (zipped("m/Manifest.json", "m/Data/com.apple.CoreML/model.mlmodel"), "Core ML", "onnxm"),
    "ONNX Runtime": (b"\x1c\0\0\0ORTM" + bytes(100), "ONNX Runtime's own format", "the .onnx file"),
    "ExecuTorch": (b"\x1c\0\0\0ET12" + bytes(100), "an ExecuTorch program", "ask for the PyTorch weights"),
    "PyTorch Mobile": (b"\x1c\0\0\0PTMF" + bytes(100), "a PyTorch Mobile model", "ask for the PyTorch weights"),
    "TensorRT": (b"ptrt" + bytes(100), "a TensorRT engine", "ask for the PyTorch weights"),
}


def refused(path: Path) -> str:
    with pytest.raises(UserError) as caught:
        read(path)
    message = str(caught.value)
    assert "\n" not in message
    return message


@pytest.mark.parametrize("kind", FILES)
def test_a_file_of_another_framework_is_named_with_its_converter(kind: str, tmp_path: Path):
    data, what, converter = FILES[kind]
    (tmp_path / "m.pt").write_bytes(data)  # the name says nothing
    message = refused(tmp_path / "m.pt")
    assert f"'{tmp_path / 'm.pt'}' is " in message
    assert what in message
    assert converter in message


FOLDERS = {
    "SavedModel": (("saved_model.pb", "variables/variables.index", "assets/a.txt"), "a TensorFlow SavedModel"),
    "Core ML package": (("Manifest.json", "Data/com.apple.CoreML/model.mlmodel"), "a Core ML model"),
    "Core ML, compiled": (("coremldata.bin.txt", "coremldata.bin"), "a Core ML model"),
    "checkpoint": (("checkpoint", "m.ckpt.index", "m.ckpt.data-00000-of-00001"), "a TensorFlow checkpoint"),
}


@pytest.mark.parametrize("kind", FOLDERS)
def test_a_folder_of_another_framework_is_named_with_its_converter(kind: str, tmp_path: Path):
    names, what = FOLDERS[kind]
    for name in names:
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_bytes(b"x")
    message = refused(tmp_path)
    assert f" {what}; convert it to ONNX" in message


def test_what_lies_beside_a_file_of_numbers_says_what_it_is(tmp_path: Path):
    (tmp_path / "m.bin").write_bytes(bytes(range(100)))
    assert "is no model file" in refused(tmp_path / "m.bin")
    (tmp_path / "m.xml").write_bytes(IR)
    assert "is an OpenVINO model" in refused(tmp_path / "m.bin")
    assert "is an OpenVINO model" in refused(tmp_path)
    (tmp_path / "m.xml").write_bytes(b"<?xml version='1.0'?><html/>")
    assert "is no model file" in refused(tmp_path / "m.bin")
    (tmp_path / "model.json").write_bytes(FILES["TensorFlow.js"][0])
    assert "is a TensorFlow.js model" in refused(tmp_path / "m.bin")
    (tmp_path / "m.ckpt.data-00000-of-00002").write_bytes(bytes(range(100)))
    assert "is a TensorFlow checkpoint" in refused(tmp_path / "m.ckpt.data-00000-of-00002")


def test_a_folder_with_a_file_of_another_framework_alone_says_so(tmp_path: Path):
    (tmp_path / "README.md").write_text("a model")
    (tmp_path / "m.tflite").write_bytes(FILES["TensorFlow Lite"][0])
    (tmp_path / "m.mlmodel").write_bytes(FILES["Core ML"][0])
    assert "holds a Core ML model" in refused(tmp_path)
    (tmp_path / "m.mlmodel").unlink()
    assert "holds a TensorFlow Lite model" in refused(tmp_path)
    torch.save({"w": torch.ones(2)}, tmp_path / "m.pth")  # beside a model of ours they are skipped, and that is said
    (found,) = read(tmp_path)
    assert "(README.md, m.tflite)" in found.notes[-1]


def test_what_is_ours_is_never_taken_for_a_strangers(tmp_path: Path):
    state = {"conv.weight": torch.randn(4, 3, 3, 3, generator=torch.Generator().manual_seed(0))}
    torch.save(state, tmp_path / "zip.pth")
    torch.save(state, tmp_path / "legacy.pth", _use_new_zipfile_serialization=False)
    for path in sorted(tmp_path.iterdir()):
        with path.open("rb") as stream:
            assert _foreign.of_file(stream, path.stat().st_size, path) is None
    onnx = field(1, 8) + field(2, b"pytorch") + field(3, b"2.6.0") + field(7, field(2, b"graph") + bytes(300))
    for data in (onnx, onnx[:100], b"", b"\x08", b"\x08\x08\x12"):
        assert _foreign.of_file(io.BytesIO(data), len(data)) is None
