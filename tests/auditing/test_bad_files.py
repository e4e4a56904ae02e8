"""Three hundred files that are broken, hostile or something else: one sentence each, no code run, bounded memory.

Every file goes through ``read`` and ``fit`` while the process may take no more than 512 MiB of address space on top.
"""

from __future__ import annotations

import builtins
import importlib
import io
import json
import os
import pickle
import runpy
import stat
import struct
import subprocess
import tarfile
import zipfile
from collections import OrderedDict
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import safetensors.torch
import test_foreign
import torch
from torch import nn

from robustkit import models
from robustkit.auditing.fitting import fit
from robustkit.auditing.reading import read
from robustkit.base.errors import UserError
from robustkit.ensembles import checkpoint
from robustkit.ensembles.ensemble import Ensemble, Member

pytestmark = pytest.mark.filterwarnings("ignore")  # torch warns about the very things that are built here
SPARE = 512 << 20


def _state() -> dict[str, torch.Tensor]:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return dict(models.build("small-resnet", 3, 10).state_dict())


STATE = _state()


def _saved(value: Any, **options: Any) -> bytes:
    stream = io.BytesIO()
    torch.save(value, stream, **options)
    return stream.getvalue()


ZIP = _saved(STATE)
LEGACY = _saved(STATE, _use_new_zipfile_serialization=False)
SAFE = safetensors.torch.save(STATE)


def _script() -> bytes:
    stream = io.BytesIO()
    torch.jit.save(torch.jit.script(nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU())), stream)
    return stream.getvalue()


SCRIPT = _script()


def _pt2(**change: Any) -> bytes:
    """A ``torch.export`` archive as its writer lays it out, with something changed."""
    meta = {
        "dtype": 7, "sizes": [{"as_int": 2}, {"as_int": 2}], "strides": [{"as_int": 2}, {"as_int": 1}],
        "storage_offset": {"as_int": 0},
    }  # fmt: skip
    row = {
        "path_name": "weight_0",
        "is_param": True,
        "use_pickle": False,
        "tensor_meta": {**meta, **change.pop("meta", {})},
    }
    files = {
        "m/models/model.json": b"{}",
        "m/archive_format": b"pt2",
        "m/byteorder": b"little",
        "m/data/weights/model_weights_config.json": json.dumps({"config": {"fc.weight": {**row, **change}}}).encode(),
        "m/data/weights/weight_0": bytes(16),
    }
    return _zip(files)


def _zip(files: dict[str, bytes], compression: int = zipfile.ZIP_STORED) -> bytes:
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w", compression) as archive:
        for name, data in files.items():
            archive.writestr(name, data)
    return stream.getvalue()


def _rezip(data: bytes, change: Callable[[dict[str, bytes]], None], compression: int = zipfile.ZIP_STORED) -> bytes:
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        files = {name: archive.read(name) for name in archive.namelist()}
    change(files)
    return _zip(files, compression)


def _with_pickle(pickled: bytes, data: bytes = ZIP) -> bytes:
    def change(files: dict[str, bytes]) -> None:
        files[next(name for name in files if name.endswith("data.pkl"))] = pickled

    return _rezip(data, change)


# ---- pickles that would run code: each leaves a canary file behind if it does


class _Call:
    def __init__(self, function: Any, *args: Any) -> None:
        self.reduced = function, args

    def __reduce__(self) -> Any:
        return self.reduced


def _payloads(canary: str) -> dict[str, Any]:
    touch = f"open({canary!r}, 'w').close()"
    return {
        "os.system": _Call(os.system, f"touch {canary}"),
        "subprocess": _Call(subprocess.call, ["touch", canary]),
        "eval": _Call(builtins.eval, f"open({canary!r}, 'w')"),
        "exec": _Call(builtins.exec, touch),
        "open": _Call(builtins.open, canary, "w"),
        "getattr": _Call(builtins.getattr, _Call(importlib.import_module, "os"), "system"),
        "runpy": _Call(runpy.run_path, canary),
        "mkdir": _Call(os.mkdir, canary),
        "torch.load": _Call(torch.load, canary),
        "torch.save": _Call(torch.save, 1, canary),
        "hub": _Call(torch.hub.load, canary, "x", "local"),
        "code": _Call(eval, f"__import__('pathlib').Path({canary!r}).touch()"),
        "write_text": _Call(Path.write_text, Path(canary), "x"),
        "module": nn.Linear(2, 2),
    }


def _pickles(canary: str) -> Iterator[tuple[str, bytes]]:
    for name, payload in _payloads(canary).items():
        yield f"zip: {name}", _saved({"state_dict": STATE, "extra": payload})
    for name in ("os.system", "eval", "exec", "torch.save"):
        payload = _payloads(canary)[name]
        yield f"zip alone: {name}", _saved(payload)
        yield f"legacy: {name}", _saved({"state_dict": STATE, "x": payload}, _use_new_zipfile_serialization=False)
        for protocol in (0, 1, 2, 4, 5):
            yield f"plain, protocol {protocol}: {name}", pickle.dumps(payload, protocol)
        yield f"in place of a shape: {name}", _with_pickle(pickle.dumps(OrderedDict(a=payload), 2))
        yield f"TorchScript: {name}", _with_pickle(pickle.dumps(payload, 2), SCRIPT)
        yield f"second pickle of a legacy file: {name}", LEGACY[:14] + pickle.dumps(payload, 2) + LEGACY[20:]
    system = pickle.dumps(_payloads(canary)["os.system"], 2)
    yield "pt2: pickled weight", _rezip(_pt2(use_pickle=True), lambda f: f.update({"m/data/weights/weight_0": system}))
    yield (
        "pt2 of 2.6",
        _zip({"serialized_exported_program.json": b"{}", "serialized_state_dict.pt": system, "version": b"8.0"}),
    )
    yield (
        "pt2 of 2.6, saved",
        _zip(
            {
                "serialized_exported_program.json": b"{}",
                "serialized_state_dict.pt": _saved({"a": _payloads(canary)["eval"]}),
            }
        ),
    )


# ---- what a pickle may declare


class _Rebuilt:
    """A tensor whose declaration lies: pickled as the call that torch.save writes, with chosen arguments."""

    def __init__(self, numel: int = 4, offset: int = 0, size: Any = (4,), stride: Any = (1,), key: str = "0") -> None:
        self.values = numel, offset, size, stride, key


class _Id:
    def __init__(self, numel: int, key: str) -> None:
        self.pid = "storage", torch.FloatStorage, key, "cpu", numel


class _Pickler(pickle.Pickler):
    def persistent_id(self, obj: Any) -> Any:
        return obj.pid if isinstance(obj, _Id) else None

    def reducer_override(self, obj: Any) -> Any:
        if isinstance(obj, _Rebuilt):
            numel, offset, size, stride, key = obj.values
            return torch._utils._rebuild_tensor_v2, (_Id(numel, key), offset, size, stride, False, OrderedDict())
        return NotImplemented


def _declaring(value: Any, record: bytes = bytes(16)) -> bytes:
    stream = io.BytesIO()
    _Pickler(stream, 2).dump(value)
    return _zip({"m/data.pkl": stream.getvalue(), "m/byteorder": b"little", "m/data/0": record, "m/version": b"3\n"})


def _nested(depth: int, empty: bytes, close: bytes) -> bytes:
    return b"\x80\x02" + empty * depth + close * (depth - 1) + b"."


def _shared_lists() -> Any:
    inner: Any = {"a": torch.ones(2)}
    for _ in range(7):
        inner = [inner] * 900
    return inner


def _loop() -> Any:
    loop: dict[str, Any] = {}
    loop["model"] = loop
    return loop


def _declarations() -> Iterator[tuple[str, bytes]]:
    yield "storage of a terabyte", _declaring({"w": _Rebuilt(1 << 38, 0, (1 << 38,))})
    yield "storage beyond int64", _declaring({"w": _Rebuilt(1 << 70, 0, (1 << 70,))})
    yield "view beyond its storage", _declaring({"w": _Rebuilt(4, 2, (4,))})
    yield "expanded over one number", _declaring({"w": _Rebuilt(4, 0, (1 << 34,), (0,))})
    yield (
        "many views of one storage",
        _declaring({f"w{i}": _Rebuilt(4096, 0, (4096,)) for i in range(3000)}, bytes(16384)),
    )
    yield "negative offset", _declaring({"w": _Rebuilt(4, -1, (4,))})
    yield "negative size", _declaring({"w": _Rebuilt(4, 0, (-4,))})
    yield "negative stride", _declaring({"w": _Rebuilt(4, 3, (4,), (-1,))})
    yield "shape of strings", _declaring({"w": _Rebuilt(4, 0, ("a",))})
    yield "stride of another length", _declaring({"w": _Rebuilt(4, 0, (2, 2), (1,))})
    yield "a thousand dimensions", _declaring({"w": _Rebuilt(4, 0, (1,) * 1000, (1,) * 1000)})
    yield "missing record", _declaring({"w": _Rebuilt(4, 0, (4,), (1,), "7")})
    yield "path as a record", _declaring({"w": _Rebuilt(4, 0, (4,), (1,), "../../etc/passwd")})
    yield "bytearray of 100 GiB", _with_pickle(b"\x80\x02cbuiltins\nbytearray\n\x8a\x05\x00\x00\x00\x00\x19\x85R.")
    yield "FloatTensor of 100 GiB", _with_pickle(b"\x80\x02ctorch\nFloatTensor\n\x8a\x05\x00\x00\x00\x00\x19\x85R.")
    yield "tuples nested deeply", _with_pickle(_nested(200_000, b")", b"")[:-1] + b"\x85" * 200_000 + b".")
    yield "lists nested deeply", _with_pickle(_nested(100_000, b"]", b"a"))
    yield "deep tuple as a key", _with_pickle(b"\x80\x02})" + b"\x85" * 200_000 + b"K\x01s.")
    yield "long of 3 MiB", _with_pickle(b"\x80\x02\x8b" + struct.pack("<i", 3 << 20) + b"\x7f" * (3 << 20) + b".")
    yield "string longer than the file", _with_pickle(b"\x80\x02X\xff\xff\xff\x7fabc.")
    yield "missing memo", _with_pickle(b"\x80\x02h\x07.")
    yield "empty pickle", _with_pickle(b"")
    yield "pickle of a stop", _with_pickle(b"\x80\x02.")
    yield "pickle of garbage", _with_pickle(bytes(range(256)))
    yield "million empty dicts", _with_pickle(b"\x80\x02(" + b"}" * 2_100_000 + b"t.")
    yield "call of a number", _with_pickle(b"\x80\x02K\x01)R.")
    yield "item of a tensor class", _with_pickle(b"\x80\x02ctorch\nSize\nK\x01K\x02s.")
    yield "lists of one list", _saved(_shared_lists())
    yield "dict that holds itself", _saved(_loop())
    yield "sparse", _saved({"w": torch.eye(3).to_sparse()})
    yield "quantised", _saved({"w": torch.quantize_per_tensor(torch.ones(4), 0.1, 0, torch.qint8)})
    yield "complex", _saved({"w": torch.ones(3, dtype=torch.complex64)})
    yield "meta", _saved({"w": torch.ones(3, device="meta")})
    for kind in UNREAD:
        for form, new in (("zip", True), ("legacy", False)):
            yield f"{kind}, {form}", _saved(_unread(kind), _use_new_zipfile_serialization=new)
    newer = _saved(_unread("complex32"))
    yield "a type of a newer torch", _renamed(newer, b"complex32", b"float6_e3m2fn")
    yield "a word that is no type", _renamed(newer, b"complex32", b"compile")
    yield "big-endian", _rezip(ZIP, lambda f: f.update({"archive/byteorder": b"big"}))


# Types that no network is run in here: complex, bits, packed floats; quantised tensors; sparse ones.
UNREAD = ("complex32", "complex64", "complex128", "bits8", "bits16", "float4_e2m1fn_x2", "quantised", "sparse")


def _unread(kind: str) -> dict[str, torch.Tensor]:
    """Return a tensor of some kind and another behind it, whose place in a legacy file depends on the first's size."""
    if kind == "quantised":
        tensor = torch.quantize_per_tensor(torch.ones(4), 0.1, 0, torch.qint32)
    elif kind == "sparse":
        tensor = torch.eye(3, dtype=torch.float64).to_sparse()
    else:
        tensor = torch.zeros(16, dtype=torch.uint8).view(getattr(torch, kind, torch.bits8))
    return {"w": tensor, "b": torch.ones(2)}


def _renamed(data: bytes, old: bytes, new: bytes) -> bytes:
    """Name another type in the pickle of a saved file, as GLOBAL writes it: a line of text."""

    def change(files: dict[str, bytes]) -> None:
        name = next(name for name in files if name.endswith("data.pkl"))
        assert old in files[name]
        files[name] = files[name].replace(old, new)

    return _rezip(data, change)


# ---- zip archives


def _patched(data: bytes, name: bytes, offset: int, value: bytes) -> bytes:
    """Overwrite a field of a central directory entry; ``offset`` counts from its signature."""
    changed, place = bytearray(data), -1
    while (place := data.find(b"PK\x01\x02", place + 1)) >= 0:
        length = struct.unpack("<H", data[place + 28 : place + 30])[0]
        if data[place + 46 : place + 46 + length].endswith(name):
            changed[place + offset : place + offset + len(value)] = value
    return bytes(changed)


def _end(data: bytes, entries: int) -> bytes:
    return data[:-14] + struct.pack("<HH", entries, entries) + data[-10:]


def _twice() -> bytes:
    stream = io.BytesIO(ZIP)
    with zipfile.ZipFile(stream, "a") as archive:
        archive.writestr("archive/data.pkl", pickle.dumps({}, 2))
    return stream.getvalue()


def _archives() -> Iterator[tuple[str, bytes]]:
    zeros = bytes(16 << 20)
    plain = _zip({"archive/data.pkl": b"\x80\x02}.", "archive/data/0": b"abcd"})
    yield "zip bomb in the weights", _rezip(ZIP, lambda f: f.update({"archive/data/0": zeros}), zipfile.ZIP_DEFLATED)
    yield "zip bomb in the pickle", _rezip(ZIP, lambda f: f.update({"archive/data.pkl": zeros}), zipfile.ZIP_DEFLATED)
    yield "zip bomb in the code", _rezip(SCRIPT, lambda f: f.update({"archive/code/a.py": zeros}), zipfile.ZIP_DEFLATED)
    yield "stored entry of a terabyte", _patched(plain, b"data.pkl", 20, b"\xff\xff\xff\x7f\xff\xff\xff\x7f")
    yield "entry with two sizes", _patched(plain, b"data.pkl", 24, struct.pack("<I", 1 << 30))
    yield "encrypted entry", _patched(plain, b"data.pkl", 8, b"\x01\x00")
    yield "unknown compression", _patched(plain, b"data.pkl", 10, b"\x63\x00")
    yield "entry outside the file", _patched(plain, b"data.pkl", 42, b"\xff\xff\xff\x7f")
    yield "entry over another", _patched(plain, b"data.pkl", 42, struct.pack("<I", plain.find(b"PK\x03\x04", 4)))
    yield "60000 entries declared", _end(plain, 60_000)
    yield "60000 entries", _zip({f"a/{i}": b"" for i in range(60_000)})
    yield "a name twice", _twice()
    yield "no end", plain[:-30]
    yield "comment behind", plain[:-2] + struct.pack("<H", 5) + b"hello"
    yield "not a model", _zip({"README.md": b"hello"})
    yield "empty zip", _zip({})
    yield "wrong checksum", ZIP.replace(STATE["linear.weight"].numpy().tobytes(), bytes(STATE["linear.weight"].nbytes))
    yield "docx", _zip({"[Content_Types].xml": b"<xml/>", "word/document.xml": b"<xml/>"})
    yield "TorchScript without data", _rezip(SCRIPT, lambda f: f.update({"archive/data.pkl": b"\x80\x02N."}))
    yield "pt2 of a huge shape", _pt2(meta={"sizes": [{"as_int": 1 << 40}, {"as_int": 2}]})
    yield "pt2 of a stride beyond", _pt2(meta={"strides": [{"as_int": 200}, {"as_int": 1}]})
    yield "pt2 of an expression", _pt2(meta={"sizes": [{"as_expr": {"expr_str": "__import__('os')"}}]})
    yield "pt2 of another path", _pt2(path_name="../../../../etc/passwd")
    yield "pt2 of a complex type", _pt2(meta={"dtype": 10})
    yield "pt2 of an unknown type", _pt2(meta={"dtype": 99})
    yield "pt2 without weights", _zip({"m/models/model.json": b"{}", "m/archive_format": b"pt2"})
    yield "pt2 of a list", _rezip(_pt2(), lambda f: f.update({"m/data/weights/model_weights_config.json": b"[1]"}))


# ---- safetensors


def _safe(header: Any, body: bytes = b"") -> bytes:
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    return struct.pack("<Q", len(text)) + text + body


def _headers() -> Iterator[tuple[str, bytes]]:
    def row(dtype: str = "F32", shape: Any = (2,), offsets: Any = (0, 8)) -> dict[str, Any]:
        return {"dtype": dtype, "shape": shape, "data_offsets": offsets}

    yield "huge header", struct.pack("<Q", 1 << 62) + b"{" + bytes(100)
    yield "empty header", _safe({})
    yield "metadata only", _safe({"__metadata__": {"format": "pt"}})
    yield "huge shape", _safe({"a": row(shape=[1 << 40, 1 << 40])}, bytes(8))
    yield "shape of an exabyte", _safe({"a": row(shape=[1 << 46], offsets=[0, 1 << 47])}, bytes(8))
    yield "negative shape", _safe({"a": row(shape=[-2])}, bytes(8))
    yield "shape over other bytes", _safe({"a": row(shape=[3])}, bytes(8))
    yield "offsets beyond", _safe({"a": row(offsets=[0, 80], shape=[20])}, bytes(8))
    yield "offsets reversed", _safe({"a": row(offsets=[8, 0])}, bytes(8))
    tied = {"a": row(shape=[1 << 20], offsets=[0, 1 << 22])}
    names = {f"b{i}": "a" for i in range(2000)}
    yield "tied until it is too large", _safe({**tied, "__metadata__": names}, bytes(1 << 22))
    yield "overlap", _safe({"a": row(), "b": row(offsets=[4, 12])}, bytes(12))
    yield "gap", _safe({"a": row(), "b": row(offsets=[16, 24])}, bytes(24))
    yield "bytes behind", _safe({"a": row()}, bytes(9))
    for kind in ("F4", "F6_E3M2", "C64"):
        yield f"unknown type {kind}", _safe({"a": row(kind)}, bytes(8))
    yield "row of a number", _safe({"a": 3}, bytes(8))
    yield "shape of a string", _safe({"a": row(shape="22")}, bytes(8))
    yield "offsets of floats", _safe({"a": row(offsets=[0.0, 8.0])}, bytes(8))
    yield "a key twice", _safe(b'{"a":{"dtype":"F32","shape":[2],"data_offsets":[0,8]},"a":{}}', bytes(8))
    yield "nested json", _safe(b'{"a":' * 100_000 + b"}" * 100_000)
    yield "number of 10000 digits", _safe(b'{"a":' + b"9" * 10_000 + b"}")
    yield "text for json", _safe(b"{hello", bytes(8))


# ---- well-formed files that hold something else


def _lstm() -> dict[str, torch.Tensor]:
    return nn.ModuleDict(
        {"embedding": nn.Embedding(50, 8), "lstm": nn.LSTM(8, 8), "out": nn.Linear(8, 50)}
    ).state_dict()


def _others() -> Iterator[tuple[str, bytes]]:
    bad = dict(STATE)
    for name, value in (("NaN", float("nan")), ("inf", float("inf")), ("-inf", -float("inf"))):
        bad["layer2.0.bn1.running_var"] = torch.full((32,), value)
        yield f"{name} weights", _saved(bad)
        yield f"{name} weights in safetensors", safetensors.torch.save(bad)
    yield "float64 beyond float32", _saved({**STATE, "bn1.bias": torch.full((16,), 1e300, dtype=torch.float64)})
    for name, value in (
        ("empty dict", {}), ("empty state_dict", {"state_dict": {}}), ("empty list", []), ("None", None),
        ("a number", 3), ("a string", "hello"), ("a tensor", torch.ones(3)),
        ("tensors without names", [torch.ones(3), torch.ones(2)]),
        ("integers only", {"w": torch.arange(5)}), ("scalars", {"epoch": 3, "loss": 0.5}),
        ("an empty tensor", {"w": torch.zeros(0)}), ("an array", {"w": np.ones(3)}),
        ("an optimiser", torch.optim.Adam([nn.Parameter(torch.ones(2))]).state_dict()),
        ("a language model", _lstm()), ("a recurrent model", nn.GRU(4, 4).state_dict()),
        ("a detection head", {f"roi_heads.box_{i}.weight": torch.ones(4, 4) for i in range(3)}),
        ("an autoencoder", nn.Sequential(nn.Linear(784, 10), nn.ReLU(), nn.Linear(10, 784)).state_dict()),
        ("wrong shape", {**STATE, "layer1.0.conv1.weight": torch.ones(16, 16, 5, 5)}),
        ("wrong dimensions", {**STATE, "conv1.weight": torch.ones(16, 27)}),
        ("a layer missing", {k: v for k, v in STATE.items() if "layer2" not in k}),
        ("a layer too many", {**STATE, "layer4.weight": torch.ones(3)}),
        ("7 classes", {**STATE, "linear.weight": torch.ones(7, 64), "linear.bias": torch.ones(7)}),
        ("head of two sizes", {**STATE, "linear.bias": torch.ones(7)}),
        ("one channel", {**STATE, "conv1.weight": torch.ones(16, 1, 3, 3)}),
        ("no batch-norm statistics", {k: v for k, v in STATE.items() if "running" not in k}),
        ("NaN in both versions", {"model": {**STATE, "bn1.bias": torch.full((16,), float("nan"))},
                                  "ema": {**STATE, "bn1.bias": torch.full((16,), float("inf"))}}),
        ("an average without a network", {"ema": {"shadow_params": list(STATE.values())}}),
        ("an average of other shapes", {"epoch": 3, "ema_model": {"w": torch.ones(3)}}),
        ("extra state alone", {"conv._extra_state": {"version": 1}}),
        ("extra state of tensors", {"w": torch.ones(3), "conv._extra_state": {"a": torch.ones(3)}}),
        ("a normaliser alone", {"normalize.mean": torch.ones(3), "normalize.std": torch.ones(3)}),
        ("a normaliser and a head", {"mean": torch.ones(3), "std": torch.zeros(3), "fc.weight": torch.ones(10, 3)}),
        ("members of nothing", {f"models.{i}.w": torch.ones(3) for i in range(3)}),
        ("a thousand members", {f"models.{i}.w": torch.ones(1) for i in range(1000)}),
        ("averages by the thousand", {f"ema_{i}.w": torch.ones(1) for i in range(3000)} | {"w": torch.ones(1)}),
        ("words without end", {"a." * 5000 + "w": torch.ones(3), "a." * 5000 + "v": torch.ones(3)}),
        ("weight norm of zeros", {"fc.weight_g": torch.ones(10, 1), "fc.weight_v": torch.zeros(10, 3)}),
        ("packed weights", {"w": torch.ones(3), "fc._packed_params._packed_params": (1, 2)}),
        ("names with line breaks", {"a\nb\x1b[31m" * 50: torch.ones(3)}),
    ):  # fmt: skip
        yield name, _saved(value)


def _foreign() -> Iterator[tuple[str, bytes]]:
    tar = io.BytesIO()
    with tarfile.open(fileobj=tar, mode="w") as archive:
        archive.addfile(tarfile.TarInfo("storages"))
    yield "nothing", b""
    yield "one byte", b"\x80"
    yield "text", b"These are not the weights that you are looking for.\n" * 20
    yield "JSON", b'{"model": "resnet20"}'
    yield "HTML, a failed download", b"<!DOCTYPE html><html><body>404</body></html>"
    yield "XML, an error of the server", b"<?xml version='1.0'?><Error><Code>AccessDenied</Code></Error>"
    yield "HTML behind a byte order mark", b"\xef\xbb\xbf\n <html><body>sign in</body></html>"
    yield "an index of shards", b'{"weight_map": {"a": "model-00001-of-00002.safetensors"}}'
    yield "git LFS pointer", b"version https://git-lfs.github.com/spec/v1\noid sha256:4d7a\nsize 12345\n"
    yield "PNG", b"\x89PNG\r\n\x1a\n" + bytes(100)
    yield "gzip", b"\x1f\x8b\x08" + bytes(100)
    yield "HDF5", b"\x89HDF\r\n\x1a\n" + bytes(100)
    yield "numpy", b"\x93NUMPY\x01\x00" + bytes(100)
    yield "zeros", bytes(10_000)
    yield "tar", tar.getvalue()
    yield "protobuf of something else", b"\x08\x03\x12\x05hello\x1a\x05world" + b"\x3a\x02\x08\x01"
    yield "shell script", b"#!/bin/sh\nrm -rf /\n"
    yield from ((name, data) for name, (data, _, _) in test_foreign.FILES.items())
    for name in ("Core ML", "SavedModel", "frozen graph", "TensorFlow Lite"):
        data = test_foreign.FILES[name][0]
        for end in (5, 9, 12, len(data) - 1):
            yield f"{name} cut at byte {end}", data[:end]


def _cut() -> Iterator[tuple[str, bytes]]:
    for name, data in (
        ("zip", ZIP),
        ("legacy", LEGACY),
        ("safetensors", SAFE),
        ("TorchScript", SCRIPT),
        ("pt2", _pt2()),
    ):
        for share in (1, 2, 5, 10, 30, 50, 70, 90, 99):
            yield f"{name} cut at {share} %", data[: max(1, len(data) * share // 100)]
        for end in (3, 9, 40, len(data) - 1):
            yield f"{name} cut at byte {end}", data[:end]


def _corpus(canary: str) -> dict[str, bytes]:
    groups = (_pickles(canary), _declarations(), _archives(), _headers(), _others(), _foreign(), _cut())
    return {name: data for group in groups for name, data in group}


@pytest.fixture
def bounded() -> Iterator[None]:
    """Let the process take half a GiB of address space more, so that a large allocation fails even if never touched."""
    resource = pytest.importorskip("resource")
    soft, hard = resource.getrlimit(resource.RLIMIT_AS)
    pages = int(Path("/proc/self/statm").read_text().split()[0]) if Path("/proc/self/statm").exists() else 0
    if pages:
        resource.setrlimit(resource.RLIMIT_AS, (pages * os.sysconf("SC_PAGE_SIZE") + SPARE, hard))
    yield
    resource.setrlimit(resource.RLIMIT_AS, (soft, hard))


def _read_and_fit(path: Path | str) -> None:
    for found in read(path):
        fit(found, channels=3, classes=10)


def _refused(path: Path | str) -> str:
    with pytest.raises(UserError) as caught:
        _read_and_fit(path)
    message = str(caught.value)
    assert "\n" not in message
    assert "\x1b" not in message
    assert message.endswith(".")
    assert Path(path).name[:20] in message
    assert len(message) < 1500
    return message


def test_every_bad_file_is_refused_in_one_sentence(tmp_path, bounded):
    canary = tmp_path / "canary"
    corpus = _corpus(str(canary))
    assert len(corpus) >= 300
    surprising = []
    for index, (name, data) in enumerate(corpus.items()):
        path = tmp_path / f"bad{index}.pth"
        path.write_bytes(data)
        try:
            message = _refused(path)
        except BaseException as error:
            surprising.append(f"{name}: {type(error).__name__}: {str(error)[:300]}")
            continue
        if "more memory" in message or "(RuntimeError" in message or "(MemoryError" in message:
            surprising.append(f"{name}: {message}")
        assert not canary.exists(), name
        path.unlink()
    assert not surprising, "\n".join(surprising)


@pytest.mark.parametrize("form", ["zip", "legacy"])
@pytest.mark.parametrize("kind", UNREAD)
def test_a_type_that_is_not_read_is_named_and_no_trust_is_asked_for(kind, form, tmp_path):
    if kind not in ("quantised", "sparse") and not hasattr(torch, kind):
        pytest.skip("a newer torch writes it")
    (tmp_path / "m.pth").write_bytes(_saved(_unread(kind), _use_new_zipfile_serialization=form == "zip"))
    message = _refused(tmp_path / "m.pth")
    said = kind if kind in ("quantised", "sparse") else f"of the type {kind}"
    assert f"declares a tensor 'w' that is {said}, which is not read; save the weights as dense float32" in message
    assert "trust" not in message


def test_a_type_that_no_torch_here_knows_is_named_and_a_function_is_not_taken_for_one(tmp_path):
    newer = _saved(_unread("complex32"))
    (tmp_path / "m.pth").write_bytes(_renamed(newer, b"complex32", b"float6_e3m2fn"))
    assert "of the type float6_e3m2fn" in _refused(tmp_path / "m.pth")
    (tmp_path / "m.pth").write_bytes(_renamed(newer, b"complex32", b"compile"))
    assert "needs code to be run ('torch.compile')" in _refused(tmp_path / "m.pth")


def test_the_payloads_are_real_ones(tmp_path):
    for name in ("os.system", "subprocess", "eval", "exec", "open", "mkdir", "torch.save", "code", "write_text"):
        canary = tmp_path / name
        torch.load(io.BytesIO(_saved(_payloads(str(canary))[name])), weights_only=False)
        assert canary.exists(), name


def _state_or_refused(path: Path) -> Mapping[str, torch.Tensor] | None:
    try:
        (found,) = read(path)
    except UserError:
        return None
    return found.state


def test_a_flipped_bit_is_refused_or_harmless_and_noticed_in_zip_archives(tmp_path, bounded):
    path = tmp_path / "m.pth"
    noticed = {}
    for kind, data in (("zip", ZIP), ("legacy", LEGACY), ("safetensors", SAFE)):
        noticed[kind] = 0
        for index in range(60):
            place = (len(data) - 1) * index // 59
            changed = bytearray(data)
            changed[place] ^= 1 << (index % 8)
            path.write_bytes(changed)
            state = _state_or_refused(path)
            noticed[kind] += state is None
            if state and kind == "zip":  # it lies between the records, and the weights are those that were saved
                assert all(torch.equal(state[name], value) for name, value in STATE.items())
    assert noticed["zip"] > 45
    assert noticed["legacy"] > 0  # without a checksum only what declares the weights is noticed
    assert noticed["safetensors"] > 0


def test_what_is_no_file_is_refused_without_waiting(tmp_path):
    os.mkfifo(tmp_path / "fifo.pth")
    (tmp_path / "dangling.pth").symlink_to(tmp_path / "gone")
    (tmp_path / "loop.pth").symlink_to(tmp_path / "loop.pth")
    (tmp_path / "empty").mkdir()
    (tmp_path / "texts").mkdir()
    (tmp_path / "texts" / "README.md").write_text("no model here")
    (tmp_path / "pipes").mkdir()
    os.mkfifo(tmp_path / "pipes" / "m.pth")
    (tmp_path / "half").mkdir()
    (tmp_path / "half" / "a.pth").write_bytes(ZIP)
    (tmp_path / "half" / "b.pth").write_bytes(ZIP[:1000])
    assert "no regular file" in _refused(tmp_path / "fifo.pth")
    assert "link to nothing" in _refused(tmp_path / "dangling.pth")
    assert "without a model file" in _refused(tmp_path / "empty")
    assert "without a model file" in _refused(tmp_path / "texts")
    assert "does not exist" in _refused(tmp_path / "gone.pth")
    assert "b.pth" in str(pytest.raises(UserError, read, tmp_path / "half").value)
    _refused(tmp_path / "loop.pth")
    assert "no regular file" in str(pytest.raises(UserError, read, tmp_path / "pipes").value)
    for odd in ("/dev/zero", "a\0b", "x" * 5000):
        assert "\n" not in str(pytest.raises(UserError, read, odd).value)
    with pytest.raises(UserError, match="no model file was named"):
        read([])


def test_what_may_not_be_read_is_refused(tmp_path):
    path = tmp_path / "m.pth"
    path.write_bytes(ZIP)
    path.chmod(0)
    if os.access(path, os.R_OK):
        pytest.skip("root may read everything")
    assert "may not be read" in _refused(path)
    path.chmod(stat.S_IRUSR)


def test_a_larger_file_than_any_classifier_is_refused_unread(tmp_path):
    with (tmp_path / "m.pth").open("wb") as stream:
        stream.write(ZIP)
        stream.truncate(5 << 30)  # sparse
    assert "5.0 GiB" in _refused(tmp_path / "m.pth")


def _onnx_files() -> dict[str, bytes]:
    onnx = pytest.importorskip("onnx")
    pytest.importorskip("onnx2torch")
    helper, kind = onnx.helper, onnx.TensorProto

    def saved(change: Callable[[Any], None], operator: str = "Add") -> bytes:
        node = helper.make_node(operator, ["x", "w"], ["y"], name="n")
        weight = onnx.numpy_helper.from_array(np.ones(3, np.float32), "w")
        values = [helper.make_tensor_value_info(name, kind.FLOAT, ["b", 3]) for name in "xy"]
        graph = helper.make_graph([node], "g", values[:1], values[1:], [weight])
        model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=8)
        change(model)
        return model.SerializeToString()

    def external(model: Any) -> None:
        weight = model.graph.initializer[0]
        weight.ClearField("raw_data")
        weight.data_location = kind.EXTERNAL
        weight.external_data.add(key="location", value="../../../../etc/passwd")

    def branch(model: Any) -> None:
        model.graph.node[0].attribute.append(helper.make_attribute("then_branch", helper.make_graph([], "a", [], [])))

    def same(operator: str, inputs: list[str], **said: Any) -> Callable[[Any], None]:
        padded = {} if operator == "DequantizeLinear" else {"auto_pad": "SAME_UPPER"}
        return lambda model: model.graph.node[0].CopyFrom(helper.make_node(operator, inputs, ["y"], **padded, **said))

    def packed(number: int, count: int, nbytes: int) -> Callable[[Any], None]:
        def change(model: Any) -> None:
            weight = model.graph.initializer[0]
            weight.data_type, weight.dims[0], weight.raw_data = number, count, bytes(nbytes)

        return change

    good = saved(lambda model: None)
    changes: dict[str, Callable[[Any], None]] = {
        "external data": external,
        "branch": branch,
        "huge shape": lambda model: model.graph.initializer[0].dims.__setitem__(0, 1 << 50),
        "negative shape": lambda model: model.graph.initializer[0].dims.__setitem__(0, -3),
        "strings": lambda model: setattr(model.graph.initializer[0], "data_type", kind.STRING),
        "foreign domain": lambda model: setattr(model.graph.node[0], "domain", "com.evil"),
        "unknown output": lambda model: setattr(model.graph.output[0], "name", "z"),
        "unknown input": lambda model: model.graph.node[0].input.__setitem__(0, "z"),
        "no node": lambda model: model.graph.ClearField("node"),
        "local function": lambda model: model.functions.add(name="f", domain="d"),
        "SAME_UPPER of no kernel": same("Conv", ["x", "z"]),
        "SAME_LOWER of another rank": same("MaxPool", ["x"], kernel_shape=[2, 2], strides=[2]),
        "SAME_UPPER of an open size": same("AveragePool", ["x"], kernel_shape=[2], strides=[2]),
        "SAME_LOWER of a stride of zero": same("MaxPool", ["x"], kernel_shape=[2], strides=[0]),
        "four bits too few": packed(22, 5, 2),
        "four bits too many": packed(22, 5, 4),
        "two bits too few": packed(26, 9, 2),
        "a type of tomorrow": packed(99, 4, 4),
        "scales of text": lambda model: model.graph.node[0].CopyFrom(
            helper.make_node("DequantizeLinear", ["w", "x"], ["y"])
        ),
        "a far axis": same("DequantizeLinear", ["w", "w"], axis=7),
        "old": lambda model: setattr(model, "ir_version", 2),
    }
    files = {name: saved(change) for name, change in changes.items()}
    files["NaN"] = saved(lambda m: setattr(m.graph.initializer[0], "raw_data", np.full(3, np.nan, "f4").tobytes()))
    files["unknown operator"] = saved(lambda model: None, "Frobnicate")
    return files | {f"cut at {n}": good[:n] for n in range(5, len(good) - 1, 17)}


def test_every_bad_onnx_file_is_refused_in_one_sentence(tmp_path):
    for name, data in _onnx_files().items():
        path = tmp_path / "bad.onnx"
        path.write_bytes(data)
        assert _refused(path), name


def test_trust_does_not_turn_a_broken_file_into_a_traceback(tmp_path):
    missing = _with_pickle(b"\x80\x02cno_such_package\nNet\n)R.")
    broken = _rezip(SCRIPT, lambda f: f.update({name: b"def f(:" for name in f if name.endswith(".py")}))
    for index, data in enumerate((missing, broken, SCRIPT[:-40], _pt2(), pickle.dumps(_Call(int, "x"), 2))):
        path = tmp_path / f"bad{index}.pth"
        path.write_bytes(data)
        with pytest.raises(UserError) as caught:
            read(path, trust_pickle=True)
        assert "\n" not in str(caught.value)


OWN = {
    "no members": lambda meta: meta.update(members=[]),
    "members of numbers": lambda meta: meta.update(members=[1, 2]),
    "a member without mean": lambda meta: meta["members"][0].pop("mean"),
    "mean of strings": lambda meta: meta["members"][0].update(mean=["a"]),
    "zero std": lambda meta: meta["members"][0].update(std="b"),
    "classes as a number": lambda meta: meta.update(classes=10**12),
    "other classes": lambda meta: meta.update(classes=["a", "b"]),
    "huge shape": lambda meta: meta.update(shape=[10**9, 8, 8]),
    "shape of text": lambda meta: meta.update(shape="abc"),
    "unknown architecture": lambda meta: meta["members"][0].update(arch="resnet99"),
    "another architecture": lambda meta: meta["members"][0].update(arch="resnet20"),
    "somebody's code": lambda meta: meta["members"][0].update(arch="os:system"),
    "somebody's file": lambda meta: meta["members"][0].update(arch="/tmp/evil.py:f"),
    "huge parameters": lambda meta: meta["members"][0].update(arch="resnet50", params={"width_per_group": 10**6}),
    "huge parameters below the bound": lambda meta: meta["members"][0].update(
        arch="resnet50", params={"width_per_group": 4096}
    ),
    "unknown parameters": lambda meta: meta["members"][0].update(params={"x": 1}),
    "parameters of a list": lambda meta: meta["members"][0].update(params=[1]),
    "unknown fusion": lambda meta: meta.update(fusion="x\ny"),
    "another hash": lambda meta: meta.update(weights_sha256="0" * 64),
    "another format": lambda meta: meta.update(format=99),
    "two members": lambda meta: meta.update(members=meta["members"] * 2),
}


def test_a_broken_robustkit_checkpoint_is_refused(tmp_path, bounded):
    network = models.build("small-resnet", 3, 10)
    network.load_state_dict(STATE)
    folder = tmp_path / "own"
    checkpoint.save_ensemble(
        Ensemble([Member(network)]), folder, arch=["small-resnet"], classes=list("abcdefghij"), shape=(3, 8, 8)
    )
    good = (folder / "ensemble.json").read_text()
    for name, change in OWN.items():
        meta = json.loads(good)
        change(meta)
        (folder / "ensemble.json").write_text(json.dumps(meta))
        assert "\n" not in str(pytest.raises(UserError, read, folder).value), name
    for text in ("", "[1]", "{" * 9, '{"a":' * 100_000, "\xff"):
        (folder / "ensemble.json").write_text(text, "latin-1")
        assert "\n" not in str(pytest.raises(UserError, read, folder).value), text[:9]
    (folder / "ensemble.json").write_text(good)
    weights = (folder / "weights.safetensors").read_bytes()
    for data in (b"", weights[:100], weights[:-5], ZIP):
        (folder / "weights.safetensors").write_bytes(data)
        assert "\n" not in str(pytest.raises(UserError, read, folder).value)
