"""Folders as trainers leave them: shards, files beside the weights, the same weights twice, what is no model at all."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import safetensors.torch
import torch
from torch import nn
from torch.distributed import checkpoint as distributed
from torch.distributed.checkpoint.format_utils import dcp_to_torch_save

import robustkit
from robustkit import models
from robustkit.auditing.fitting import fit
from robustkit.auditing.reading import ModelInFile, read
from robustkit.base.errors import UserError
from robustkit.ensembles.ensemble import Ensemble

QUICK = {"attacks": "fgsm", "eps": "0.1", "reference": False, "trust": "off", "workers": 1}
X = torch.rand(4, 3, 8, 8, generator=torch.Generator().manual_seed(3))
NETWORK = models.build("small-resnet", 3, 10).eval()
STATE = {name: value.clone() for name, value in NETWORK.state_dict().items()}


def _same(found: ModelInFile, network: nn.Module = NETWORK) -> None:
    with torch.no_grad():
        assert torch.equal(fit(found, channels=3, classes=10).network(X), network(X))


def _trainers_files(folder: Path) -> list[str]:
    optimiser = torch.optim.Adam(NETWORK.parameters())
    NETWORK(X).sum().backward()
    optimiser.step()
    NETWORK.load_state_dict(STATE)
    torch.save(optimiser.state_dict(), folder / "optimizer.pt")
    torch.save(optimiser.state_dict(), folder / "step_100.pt")  # an optimiser's by what is in it
    torch.save({"last_epoch": 3}, folder / "scheduler.pt")
    torch.save({"python": (3, (1, 2), None), "cpu": torch.get_rng_state()}, folder / "rng_state.pth")
    torch.save(NETWORK, folder / "training_args.bin")  # a pickled object, as transformers writes it
    (folder / "trainer_state.json").write_text("{}")
    return [
        "optimizer.pt", "rng_state.pth", "scheduler.pt", "step_100.pt", "trainer_state.json", "training_args.bin",
    ]  # fmt: skip


def test_a_trainers_files_beside_the_weights_are_skipped_and_named(tmp_path: Path):
    safetensors.torch.save_file(STATE, tmp_path / "model.safetensors")
    names = _trainers_files(tmp_path)
    (found,) = read(tmp_path)
    _same(found)
    assert f"6 of the folder's entries are no models and were skipped ({', '.join(names[:5])}, ...)" in found.notes
    for name, why in (("optimizer.pt", "an optimiser's state and no weights"), ("training_args.bin", "needs code")):
        with pytest.raises(UserError, match=why):  # named, they are refused
            read(tmp_path / name)
    (tmp_path / "model.safetensors").unlink()
    with pytest.raises(UserError, match="folder without a model file"):
        read(tmp_path)


def test_a_damaged_model_is_not_skipped_in_silence(tmp_path: Path):
    safetensors.torch.save_file(STATE, tmp_path / "a.safetensors")
    (tmp_path / "b.pth").write_bytes((tmp_path / "a.safetensors").read_bytes()[:-9])
    with pytest.raises(UserError, match=r"b.pth.*cut off"):
        read(tmp_path)


def _shards(folder: Path, kind: str, prefix: str = "") -> dict[str, str]:
    names = [prefix + name for name in STATE]
    parts = [names[:15], names[15:]]
    places = {}
    for index, part in enumerate(parts, 1):
        file = f"model-0000{index}-of-00002.{kind}"
        state = {name: STATE[name.removeprefix(prefix)] for name in part}
        safetensors.torch.save_file(state, folder / file) if kind == "safetensors" else torch.save(state, folder / file)
        places.update(dict.fromkeys(part, file))
    return places


@pytest.mark.parametrize("kind", ["safetensors", "bin"])
@pytest.mark.parametrize("indexed", [True, False])
def test_shards_are_one_network(kind: str, indexed: bool, tmp_path: Path):
    places = _shards(tmp_path, kind, "model.")
    index = tmp_path / f"model.{kind}.index.json"
    if indexed:
        index.write_text(json.dumps({"metadata": {"total_size": 1}, "weight_map": places}))
    files = sorted(tmp_path.glob("*-of-*"))
    for named in (tmp_path, files[1], files, *([index] if indexed else [])):
        (found,) = read(named)
        assert found.name == "model"
        assert "the network lies in 2 files" in " ".join(found.notes)
        assert "the prefix 'model.' was stripped" in " ".join(found.notes)
        _same(found)
    files[0].unlink()
    with pytest.raises(UserError, match="which is not there; fetch it" if indexed else "one of 2 files .* 1 are there"):
        read(tmp_path)


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("{", "JSON that cannot be read"),
        ("{}", "lists no weights and their files"),
        ('{"weight_map": {"a": 3}}', "lists no weights and their files"),
        ('{"weight_map": {"a": "../a.safetensors"}}', "would not lie beside it"),
        ('{"weight_map": {"a": "/etc/passwd"}}', "would not lie beside it"),
        ('{"weight_map": {"a": "gone.safetensors"}}', "which is not there"),
        ('{"weight_map": {"a": "text.bin"}}', "neither safetensors nor of torch.save"),
        ('{"weight_map": {"a": "nested.bin"}}', "no list of tensors"),
        ('{"weight_map": {"a": "one.bin", "b": "two.bin"}}', "names 'a' in two files"),
    ],
)
def test_a_bad_index_is_refused_in_one_sentence(text: str, why: str, tmp_path: Path):
    (tmp_path / "model.safetensors.index.json").write_text(text)
    (tmp_path / "text.bin").write_text("hello, this is no model")
    torch.save({"state_dict": STATE}, tmp_path / "nested.bin")
    for name in ("one", "two"):
        torch.save({"a": torch.ones(2)}, tmp_path / f"{name}.bin")
    with pytest.raises(UserError, match=why) as caught:
        read(tmp_path)
    assert "\n" not in str(caught.value)


def test_the_same_weights_in_two_formats_are_one_model(tmp_path: Path):
    safetensors.torch.save_file(STATE, tmp_path / "model.safetensors")
    torch.save(STATE, tmp_path / "pytorch_model.bin")
    (found,) = read(tmp_path)
    assert any("pytorch_model.bin holds the same weights and is left out" in one for one in found.notes)
    torch.save({**STATE, "linear.bias": torch.ones(10)}, tmp_path / "pytorch_model.bin")
    assert len(read(tmp_path)) == 2


def test_equal_members_are_a_reason_to_doubt(resnets: Ensemble, test_images, tmp_path: Path):
    first, second = (member.network.state_dict() for member in list(resnets.members)[:2])
    for name, state in (("a", first), ("b", second), ("c", first)):
        torch.save(state, tmp_path / f"{name}.pth")
    results = robustkit.audit(
        [tmp_path / f"{name}.pth" for name in "abc"], test_images, n=30, suites="attacks", out=tmp_path / "out",
        formats=(), **QUICK,
    )  # fmt: skip
    found = [[f for f in one["findings"] if f["what"] == "equal members"] for one in results["audit"]]
    assert [len(one) for one in found] == [0, 0, 1]
    assert (found[2][0]["value"], found[2][0]["concern"]) == ("as a", True)


@pytest.mark.filterwarnings("ignore")
def test_the_converter_of_a_distributed_checkpoint_is_named_and_works(tmp_path: Path):
    folder = tmp_path / "step-100"
    distributed.save({"model": {name: value.clone() for name, value in STATE.items()}}, checkpoint_id=folder)
    for named in (folder, folder / ".metadata", next(folder.glob("*.distcp"))):
        with pytest.raises(UserError, match=r"format_utils dcp_to_torch FOLDER model.pt. and name model.pt") as caught:
            read(named)
        assert "trust" not in str(caught.value)
    dcp_to_torch_save(folder, tmp_path / "model.pt")  # what the named command calls
    (found,) = read(tmp_path / "model.pt")
    _same(found)


@pytest.mark.parametrize(
    ("data", "why"),
    [
        (b"<!DOCTYPE html><html><body>404</body></html>", "is a web page .*download the file itself"),
        (b"\xef\xbb\xbf\r\n  <HTML lang=en>", "is a web page"),
        (b"<?xml version='1.0'?><Error><Code>AccessDenied</Code></Error>", "is a web page or XML"),
        (
            b"version https://git-lfs.github.com/spec/v1\noid sha256:4d7a\nsize 12345\n",
            "a git-lfs pointer.*lfs pull",
        ),
    ],
)
def test_what_a_download_left_instead_of_a_model_is_named(data: bytes, why: str, tmp_path: Path):
    (tmp_path / "model.pt").write_bytes(data)
    with pytest.raises(UserError, match=why):
        read(tmp_path / "model.pt")
