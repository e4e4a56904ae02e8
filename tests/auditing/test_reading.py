"""One small network saved in every format comes back with identical logits, and no format runs its file's code."""

from __future__ import annotations

import hashlib
import io
import os
import pickle
import re
import sys
import zipfile
from argparse import Namespace
from collections import OrderedDict
from pathlib import Path, PurePosixPath

import numpy as np
import pytest
import safetensors.torch
import torch
from torch import Tensor, nn

from robustkit import models
from robustkit.auditing import _pickle
from robustkit.auditing._batches import InBatches
from robustkit.auditing.fitting import fit
from robustkit.auditing.reading import ModelInFile, read
from robustkit.base.errors import UserError
from robustkit.ensembles import checkpoint
from robustkit.ensembles.ensemble import Ensemble, Member

pytestmark = pytest.mark.filterwarnings("ignore:.torch.jit:FutureWarning", "ignore:'str' object:SyntaxWarning")


def _network(seed: int) -> nn.Module:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        network = models.build("small-resnet", 3, 10)
        for name, value in network.named_buffers():
            if value.is_floating_point():
                value.copy_(torch.rand_like(value) + (0.5 if name.endswith("var") else 0))
    return network.eval()


@pytest.fixture(scope="module")
def network() -> nn.Module:
    return _network(1)


@pytest.fixture(scope="module")
def images() -> Tensor:
    return torch.rand(4, 3, 8, 8, generator=torch.Generator().manual_seed(3))


def _logits(found: ModelInFile, x: Tensor) -> Tensor:
    with torch.no_grad():
        return fit(found, arch="small-resnet", channels=3, classes=10).network(x)


def _same(found: ModelInFile, network: nn.Module, x: Tensor) -> None:
    with torch.no_grad():
        assert torch.equal(_logits(found, x), network(x))


def _prefixed(state: dict[str, Tensor], prefix: str) -> dict[str, Tensor]:
    return OrderedDict((prefix + key, value) for key, value in state.items())


def _cast(state: dict[str, Tensor], dtype: torch.dtype) -> dict[str, Tensor]:
    return {key: value.to(dtype) if value.is_floating_point() else value for key, value in state.items()}


WRAPPED = {
    "bare": lambda s: s,
    "state_dict": lambda s: {"epoch": 3, "state_dict": s},
    "model": lambda s: {"model": s, "optimizer": {"state": {}, "param_groups": [{"lr": 0.1}]}},
    "net": lambda s: {"net": s, "acc": 91.2},
    "model_state_dict": lambda s: {"model_state_dict": s},
    "ema": lambda s: {"ema": s},
    "ema_state_dict": lambda s: {"ema_state_dict": s, "updates": 7},
    "weights": lambda s: {"weights": s},
    "params": lambda s: {"params": s},
    "list of one": lambda s: [s],
    "twice": lambda s: {"model": {"state_dict": s}},
    "DataParallel": lambda s: {"state_dict": _prefixed(s, "module.")},
    "compiled": lambda s: _prefixed(s, "_orig_mod."),
    "both": lambda s: _prefixed(s, "_orig_mod.module.backbone."),
    "parameters": lambda s: {k: nn.Parameter(v) if v.is_floating_point() else v for k, v in s.items()},
    "arguments beside": lambda s: {"model": s, "args": Namespace(lr=0.1), "best": np.float64(0.9), "at": Path("a")},
}


@pytest.mark.parametrize("legacy", [False, True], ids=["zip", "legacy"])
@pytest.mark.parametrize("kind", WRAPPED)
def test_a_state_dict_is_found_wherever_torch_save_put_it(kind, legacy, network, images, tmp_path):
    path = tmp_path / "m.pth"
    torch.save(WRAPPED[kind](network.state_dict()), path, _use_new_zipfile_serialization=not legacy)
    (found,) = read(path)
    assert found.format == "torch state dict"
    assert list(found.state) == list(network.state_dict())
    _same(found, network, images)


@pytest.mark.parametrize("protocol", [2, 3, 4, 5])
@pytest.mark.parametrize("legacy", [False, True], ids=["zip", "legacy"])
def test_what_is_read_is_what_torch_load_reads(protocol, legacy, tmp_path):
    base = torch.arange(24.0).reshape(4, 6)
    state = {
        "transposed": base.t(), "slice": base[1:3, ::2], "tied": base, "scalar": torch.tensor(2.5),
        "empty": torch.zeros(0, 3),
        "flags": torch.tensor([True, False, True]), "counts": torch.arange(5),
        "bytes": torch.arange(5, dtype=torch.uint8),
        "wide": torch.tensor([1 / 3], dtype=torch.float64), "half": torch.tensor([1 / 3]).half(),
        "brain": torch.tensor([1 / 3]).bfloat16(),
    }  # fmt: skip
    path = tmp_path / "m.pt"
    torch.save(state, path, pickle_protocol=protocol, _use_new_zipfile_serialization=not legacy)
    (found,) = read(path)
    expected = torch.load(path, weights_only=False)
    assert list(found.state) == list(expected)
    for name, value in expected.items():
        got = found.state[name]
        assert got.dtype == (torch.float32 if value.is_floating_point() else value.dtype)
        assert torch.equal(got, value.to(got.dtype))
    text = " ".join(found.notes)
    assert "1 tensors were converted from float64 to float32" in text
    assert "1 tensors were converted from bfloat16 to float32" in text


def test_a_view_of_an_old_storage_is_found(tmp_path):
    path = tmp_path / "m.pt"
    base = torch.arange(10.0)
    torch.save({"a": base[2:5], "b": base[7:]}, path, _use_new_zipfile_serialization=False)
    (found,) = read(path)
    assert found.state["a"].tolist() == [2, 3, 4]
    assert found.state["b"].tolist() == [7, 8, 9]


def test_lightning_keeps_the_network_and_leaves_the_rest(network, images, tmp_path):
    state = {**_prefixed(network.state_dict(), "model."), "loss.weight": torch.ones(10)}
    path = tmp_path / "last.ckpt"
    torch.save({"pytorch-lightning_version": "2.5.0", "state_dict": state, "hyper_parameters": {"lr": 0.1}}, path)
    (found,) = read(path)
    assert found.format == "Lightning checkpoint"
    assert "loss.weight" in " ".join(found.notes)
    assert found.says["lr"] == 0.1
    _same(found, network, images)


def test_safetensors(network, images, tmp_path):
    path = tmp_path / "m.pth"  # the name says nothing
    safetensors.torch.save_file(_prefixed(network.state_dict(), "module."), path)
    (found,) = read(path)
    assert found.format == "safetensors"
    _same(found, network, images)


def test_tied_weights_in_safetensors_have_all_their_names(tmp_path):
    class Tied(nn.Module):
        def __init__(self, classes: int) -> None:
            super().__init__()
            self.first, self.second = nn.Linear(12, 12), nn.Linear(12, 12)
            self.second.weight = self.first.weight
            self.third, self.head = self.first, nn.Linear(12, classes)

        def forward(self, x: Tensor) -> Tensor:
            return self.head(self.third(self.second(self.first(x.flatten(1)))))

    network = Tied(10)
    safetensors.torch.save_model(network, tmp_path / "m.safetensors", metadata={"format": "pt", "about": "head"})
    (found,) = read(tmp_path / "m.safetensors")
    assert set(found.state) == set(network.state_dict())
    for name, value in network.state_dict().items():
        assert torch.equal(found.state[name], value)
    assert any("3 tied weights have further names" in note for note in found.notes)
    with torch.no_grad():  # each has memory of its own, as from torch.save
        found.state["first.weight"].zero_()
    assert torch.equal(found.state["third.weight"], network.first.weight)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
def test_other_floats_come_back_as_float32(dtype, network, images, tmp_path):
    state = _cast(network.state_dict(), dtype)
    safetensors.torch.save_file(state, tmp_path / "m.safetensors")
    torch.save(state, tmp_path / "m.pth")
    for found in read(tmp_path):
        for name, value in state.items():
            assert torch.equal(found.state[name].to(dtype), value)
        assert str(dtype).removeprefix("torch.") in " ".join(found.notes)


EIGHT_BITS = [name for name in dir(torch) if name.startswith("float8_")]


@pytest.mark.parametrize("kind", EIGHT_BITS)
def test_every_eight_bit_float_comes_back_as_float32(kind, tmp_path):
    codes = torch.arange(8, 120, dtype=torch.uint8)  # none of them NaN or infinite in any of the types
    state = {"w": codes.view(getattr(torch, kind)), "b": torch.ones(2)}
    torch.save(state, tmp_path / "zip.pth")
    torch.save(state, tmp_path / "legacy.pth", _use_new_zipfile_serialization=False)
    if kind in ("float8_e4m3fn", "float8_e5m2", "float8_e4m3fnuz", "float8_e5m2fnuz"):
        safetensors.torch.save_file(state, tmp_path / "s.safetensors")
    for found in read(tmp_path):
        assert found.state["w"].dtype == torch.float32
        assert torch.equal(found.state["w"], state["w"].float())
        assert torch.equal(found.state["b"], torch.ones(2))
        assert f"1 tensors were converted from {kind} to float32" in found.notes


def test_types_beside_the_weights_ask_for_no_code(network, images, tmp_path):
    kinds = {"dtype": torch.complex32, "activations": torch.quint8, "mask": torch.bool}
    torch.save({"state_dict": network.state_dict(), **kinds}, tmp_path / "m.pth")
    (found,) = read(tmp_path / "m.pth")
    _same(found, network, images)


ENSEMBLES = {
    "numbered": lambda a, b: {"model_1": b, "model_0": a},
    "list": lambda a, b: [a, b],
    "members": lambda a, b: {"members": [{"state_dict": a}, {"state_dict": b}]},
    "module list": lambda a, b: {**_prefixed(a, "module.models.0."), **_prefixed(b, "module.models.1.")},
}


@pytest.mark.parametrize("kind", ENSEMBLES)
def test_several_networks_in_one_file(kind, network, images, tmp_path):
    other = _network(2)
    torch.save(ENSEMBLES[kind](network.state_dict(), other.state_dict()), tmp_path / "m.pth")
    first, second = read(tmp_path / "m.pth")
    assert [first.name, second.name] == ["m-model_0", "m-model_1"]
    _same(first, network, images)
    _same(second, other, images)


def test_a_folder_is_its_model_files_sorted(network, images, tmp_path):
    other = _network(2)
    torch.save(other.state_dict(), tmp_path / "b.pth")
    safetensors.torch.save_file(network.state_dict(), tmp_path / "a")  # found by content
    (tmp_path / "README.md").write_text("two networks")
    (tmp_path / "logs").mkdir()
    first, second = read(tmp_path)
    assert [first.name, second.name] == ["a", "b"]
    assert "2 of the folder's entries are no models and were skipped (README.md, logs/)" in first.notes
    _same(first, network, images)
    _same(second, other, images)
    again = read([tmp_path / "b.pth", tmp_path / "b.pth"])
    assert [found.name for found in again] == ["b", "b-2"]
    assert again[0].sha256 == again[1].sha256 != first.sha256


def test_torchscript_needs_trust_to_run_and_none_for_its_weights(network, images, tmp_path):
    path = tmp_path / "m.pt"
    torch.jit.trace(network, images).save(path)
    (found,) = read(path)
    assert (found.format, found.module) == ("TorchScript", None)
    assert "--trust-pickle" in " ".join(found.notes)
    _same(found, network, images)
    (whole,) = read(path, trust_pickle=True)
    assert "TRUSTED" in " ".join(whole.notes)
    _same(whole, network, images)
    torch.jit.script(nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4))).save(path)
    assert list(read(path)[0].state) == [
        "0.weight", "0.bias", "1.weight", "1.bias", "1.running_mean", "1.running_var", "1.num_batches_tracked",
    ]  # fmt: skip


OLD = tuple(map(int, torch.__version__.split(".")[:2])) < (2, 7)
UNBOUNDED = pytest.mark.skipif(OLD, reason="torch 2.6 exports no batch without an upper bound")


def test_an_exported_program_needs_trust_to_run_and_none_for_its_weights(network, images, tmp_path):
    path = tmp_path / "m.pt2"
    program = torch.export.export(network, (images,), dynamic_shapes=({0: torch.export.Dim("batch", min=2, max=1024)},))
    torch.export.save(program, path)
    (found,) = read(path)
    assert (found.format, found.module) == ("torch.export", None)
    _same(found, network, images)
    (whole,) = read(path, trust_pickle=True)
    assert "TRUSTED" in " ".join(whole.notes)
    _same(whole, network, images)


@pytest.mark.parametrize(
    ("sizes", "note"),
    [
        (None, "exported for batches of 4"),
        ({"max": 16}, "takes 1 to 16 images"),
        pytest.param({"min": 3}, "takes 3 to any number", marks=UNBOUNDED),
    ],
)
def test_an_exported_program_is_given_the_batches_that_it_takes(sizes, note, network, tmp_path):
    x = torch.rand(18, 3, 8, 8, generator=torch.Generator().manual_seed(4))
    shapes = ({0: torch.export.Dim("batch", **sizes)},) if sizes else None
    torch.export.save(torch.export.export(network, (x[:4],), dynamic_shapes=shapes), tmp_path / "m.pt2")
    (found,) = read(tmp_path / "m.pt2", trust_pickle=True)
    assert note in " ".join(found.notes)
    program = fit(found, channels=3, classes=10).network
    program.eval()  # torch.export's own raises here
    assert not any(module.training for module in program.modules())
    for count in (1, 4, 18):
        batch, expected = (x[:count].clone().requires_grad_() for _ in range(2))
        program(batch).square().sum().backward()
        network(expected).square().sum().backward()
        torch.testing.assert_close(program(batch), network(expected))
        torch.testing.assert_close(batch.grad, expected.grad)  # what fills a batch up adds nothing


def test_the_weights_of_an_exported_program_of_torch_2_6_are_read(network, images, tmp_path):
    weights = io.BytesIO()
    torch.save(network.state_dict(), weights)
    with zipfile.ZipFile(tmp_path / "m.pt2", "w") as archive:  # as torch.export.save laid it out up to 2.7
        archive.writestr("version", "8.2")
        archive.writestr("serialized_exported_program.json", "{}")
        archive.writestr("serialized_state_dict.pt", weights.getvalue())
        archive.writestr("extra_files/note.txt", "x")
    (found,) = read(tmp_path / "m.pt2")
    assert (found.format, found.module) == ("torch.export", None)
    _same(found, network, images)


def test_a_whole_pickled_module_needs_trust(network, images, tmp_path):
    torch.save({"model": network}, tmp_path / "m.pth")
    with pytest.raises(
        UserError, match=r"needs code to be run \('robustkit.models._residual.ResNet'\).*--trust-pickle"
    ):
        read(tmp_path / "m.pth")
    (found,) = read(tmp_path / "m.pth", trust_pickle=True)
    assert found.format == "pickled module"
    assert "PICKLE TRUSTED" in found.notes[0]
    _same(found, network, images)


def test_robustkits_own_folder(network, tmp_path):
    x = torch.rand(4, 3, 8, 8, generator=torch.Generator().manual_seed(3))
    members = [Member(network, [0.5], [0.25]), Member(_network(2), [0.4], [0.3])]
    ensemble = Ensemble(members).eval()
    folder = tmp_path / "pair"
    checkpoint.save_ensemble(
        ensemble, folder, arch=["small-resnet"] * 2, classes=[str(i) for i in range(10)], shape=(3, 8, 8)
    )
    for path in (folder, folder / "weights.safetensors", folder / "ensemble.json", tmp_path):
        found = read(path)
        assert [one.name for one in found] == ["pair-model_0", "pair-model_1"]
        assert {one.format for one in found} == {"robustkit"}
        with torch.no_grad():
            for one, member in zip(found, members, strict=True):
                assert torch.equal(fit(one, channels=3, classes=10).network(x), member(x))


def _onnx_model(node_name: str = "conv"):
    onnx = pytest.importorskip("onnx")
    pytest.importorskip("onnx2torch")
    generator = torch.Generator().manual_seed(5)
    conv, linear = torch.randn(4, 3, 3, 3, generator=generator), torch.randn(10, 4, generator=generator)
    helper, kind = onnx.helper, onnx.TensorProto.FLOAT
    nodes = [
        helper.make_node("Conv", ["x", "w"], ["a"], name=node_name, kernel_shape=[3, 3], pads=[1, 1, 1, 1]),
        helper.make_node("Relu", ["a"], ["b"], name="relu"),
        helper.make_node("GlobalAveragePool", ["b"], ["c"], name="pool"),
        helper.make_node("Flatten", ["c"], ["d"], name="flat", axis=1),
        helper.make_node("Gemm", ["d", "v"], ["y"], name="fc", transB=1),
    ]
    graph = helper.make_graph(
        nodes, "net",
        [helper.make_tensor_value_info("x", kind, ["batch", 3, 8, 8])],
        [helper.make_tensor_value_info("y", kind, ["batch", 10])],
        [onnx.numpy_helper.from_array(conv.numpy(), "w"), onnx.numpy_helper.from_array(linear.numpy(), "v")],
    )  # fmt: skip
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=8)
    return model, lambda x: torch.relu(torch.conv2d(x, conv, padding=1)).mean((2, 3)) @ linear.T


def test_onnx(images, tmp_path):
    model, reference = _onnx_model()
    (tmp_path / "m.bin").write_bytes(model.SerializeToString())
    (found,) = read(tmp_path / "m.bin")
    assert found.format == "ONNX"
    torch.testing.assert_close(fit(found, channels=3, classes=10).network(images), reference(images))


def test_a_program_in_batches_fills_up_and_splits():
    seen: list[int] = []

    class Counts(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            seen.append(len(x))
            return x.flatten(1)

    x = torch.rand(7, 1, 1, 2)
    for low, high, expected in ((3, 3, [3, 3, 3]), (1, 5, [5, 2]), (1, 0, [7]), (8, 0, [8])):
        seen.clear()
        assert torch.equal(InBatches(Counts(), low, high)(x), x.flatten(1))
        assert seen == expected


@pytest.mark.parametrize(("flatten", "bound"), [(True, False), (False, True)])
def test_an_onnx_file_for_one_batch_size_is_split_where_it_takes_no_other(flatten, bound, images, tmp_path):
    model, reference = _onnx_model()
    for row, rest in ((model.graph.input[0], 3), (model.graph.output[0], 1)):
        row.type.tensor_type.shape.dim[0].dim_value = 2
        assert len(row.type.tensor_type.shape.dim) == rest + 1
    if not flatten:  # as an exporter writes x.view(len(x), -1) with the batch at hand
        onnx = pytest.importorskip("onnx")
        shape = onnx.numpy_helper.from_array(np.array([2, 4], np.int64), "shape")
        model.graph.initializer.append(shape)
        model.graph.node[3].CopyFrom(onnx.helper.make_node("Reshape", ["c", "shape"], ["d"], name="view"))
    (tmp_path / "m.onnx").write_bytes(model.SerializeToString())
    (found,) = read(tmp_path / "m.onnx")
    assert isinstance(found.module, InBatches) is bound
    assert ("exported for batches of 2" in " ".join(found.notes)) is bound
    for count in (1, 3, 4):
        got = fit(found, channels=3, classes=10).network(images[:count])
        torch.testing.assert_close(got, reference(images[:count]))


def test_an_onnx_node_name_does_not_become_code(images, tmp_path):
    onnx2torch = pytest.importorskip("onnx2torch")
    canary = f"robustkit_canary_{os.getpid()}"
    payload = f'relu") and getattr(__import__("builtins"), "setattr")(__import__("sys"), "{canary}", 1) or ("'
    model, reference = _onnx_model(payload)
    hostile = onnx2torch.convert(model)
    with pytest.raises(TypeError):
        hostile(images)
    assert hasattr(sys, canary)  # without renaming the name is run: the payload is a real one
    delattr(sys, canary)
    (tmp_path / "m.onnx").write_bytes(model.SerializeToString())
    network = fit(read(tmp_path / "m.onnx")[0], channels=3, classes=10).network
    torch.testing.assert_close(network(images), reference(images))
    assert not hasattr(sys, canary)


def test_onnx_without_the_extra_says_how_to_get_it(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "onnx", None)
    graph = b"\x3a\x04\x0a\x02\x0a\x00"
    (tmp_path / "m.onnx").write_bytes(b"\x08\x08\x12\x07pytorch" + graph)
    with pytest.raises(UserError, match=r"reading it needs an extra: .* install .*\[onnx\]'"):
        read(tmp_path / "m.onnx")


class _Saves(nn.Module):
    def __init__(self, path: str) -> None:
        super().__init__()
        self.path, self.w = path, nn.Parameter(torch.zeros(1))

    def forward(self, x: Tensor) -> Tensor:
        return x + self.w

    @torch.jit.export
    def __getstate__(self) -> tuple[str, Tensor, bool]:
        return self.path, self.w, self.training

    @torch.jit.export
    def __setstate__(self, state: tuple[str, Tensor, bool]) -> None:
        self.path, self.w, self.training = state
        torch.save(self.w, self.path)


def test_loading_torchscript_can_write_files_and_reading_it_does_not(tmp_path):
    canary, path = tmp_path / "canary", tmp_path / "m.pt"
    torch.jit.script(_Saves(str(canary))).save(path)
    with pytest.raises(UserError):
        read(path)
    assert not canary.exists()
    torch.jit.load(path)
    assert canary.exists()  # why TorchScript needs --trust-pickle


def test_a_path_beside_the_weights_is_data_whichever_python_wrote_it():
    said = pickle.dumps({"at": PurePosixPath("a")}, 2)
    older, newer = (said.replace(b"pathlib._local", b"pathlib"), said.replace(b"cpathlib\n", b"cpathlib._local\n"))
    assert older != newer  # Python 3.13 named another module
    for text in (older, newer):
        assert _pickle.parse(io.BytesIO(text))["at"].maker == "pathlib.PurePosixPath"


def test_a_pickle_is_read_as_data():
    text = {"a": [1, 2.5, None, True, b"x", "y"], "b": (1, (2, 3)), 4: {"c": -7}, "d": 2**40, "e": set()}
    for protocol in (2, 3, 4, 5):
        got = _pickle.parse(io.BytesIO(pickle.dumps(text, protocol)))
        assert isinstance(got.pop("e"), _pickle.Thing)
        assert got["a"][4] == b"x" if protocol > 2 else got["a"][4].maker == "_codecs.encode"
        assert got["a"][:4] + got["a"][5:] == [1, 2.5, None, True, "y"]
        assert (got["b"], got["4"], got["d"]) == ((1, (2, 3)), {"c": -7}, 2**40)


def test_the_hash_is_the_files(tmp_path):
    torch.save({"w": torch.ones(2, 2)}, tmp_path / "m.pt")
    assert read(tmp_path / "m.pt")[0].sha256 == hashlib.sha256((tmp_path / "m.pt").read_bytes()).hexdigest()


def test_a_checkpoint_of_somebodys_code_is_read_where_that_code_is_named(tmp_path: Path):
    nets = tmp_path / "nets.py"
    nets.write_text(
        "from torch import nn\n\ndef net(channels, classes):\n"
        "    return nn.Sequential(nn.Flatten(), nn.Linear(64, classes))\n"
    )
    arch, folder = f"{nets}:net", tmp_path / "seeds" / "one"
    network = models.build(arch, 1, 10)
    checkpoint.save_ensemble(
        Ensemble([Member(network)]), folder, arch=[arch], classes=list("0123456789"), shape=(1, 8, 8)
    )
    with pytest.raises(UserError, match=f"not run at a checkpoint's word; name it: --arch '{re.escape(arch)}'"):
        read(folder)
    with pytest.raises(UserError, match="not run at a checkpoint's word"):
        read(folder, arch=f"{nets}:other")
    elsewhere = tmp_path / "elsewhere" / "nets.py"
    elsewhere.parent.mkdir()
    nets.rename(elsewhere)  # as on another machine, or from another folder
    arch = f"{elsewhere}:net"
    for path in (folder, folder.parent):  # the checkpoint, and a folder of such
        (found,) = read(path, arch=arch)
        x = torch.rand(3, 1, 8, 8)
        assert torch.equal(found.module(x), Member(network)(x))
        assert fit(found, channels=1, classes=10, arch=arch).notes == ("the network lies in the file",)
