"""Checkpoints: a round trip that keeps every bit, and no trust in what a file says."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest
import torch

import robustkit
from robustkit.base.errors import UserError
from robustkit.ensembles.checkpoint import save_ensemble
from robustkit.ensembles.ensemble import Ensemble


@pytest.fixture
def folder(resnets: Ensemble, tmp_path: Path) -> Path:
    save_ensemble(
        resnets, tmp_path / "ck", arch=["small-resnet"] * 3, classes=[str(i) for i in range(10)], shape=(1, 8, 8)
    )
    return tmp_path / "ck"


def edit(folder: Path, **changes) -> None:
    path = folder / "ensemble.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **changes}))


def test_round_trip_keeps_every_bit(folder: Path, resnets: Ensemble, test_images):
    x, _ = test_images
    for path in (folder, folder / "ensemble.json", str(folder / "weights.safetensors")):
        loaded = robustkit.load_ensemble(path)
        assert not loaded.training
        assert torch.equal(loaded(x), resnets(x))
    assert torch.equal(loaded(x).argmax(1), loaded.member_logits(x).softmax(2).mean(0).argmax(1))
    assert robustkit.load_ensemble(folder, fusion="majority").fusion == "majority"
    assert sorted(p.name for p in folder.iterdir()) == ["ensemble.json", "weights.safetensors"]


def test_what_is_not_a_checkpoint(tmp_path: Path):
    with pytest.raises(UserError, match="is not a robustkit checkpoint; a folder with ensemble.json and weights"):
        robustkit.load_ensemble(tmp_path)


def test_damaged_files(folder: Path):
    weights = folder / "weights.safetensors"
    content = weights.read_bytes()
    for damaged in (content[: len(content) // 2], b"", b"\xff" * 100):
        weights.write_bytes(damaged)
        with pytest.raises(UserError, match="does not fit ensemble.json"):
            robustkit.load_ensemble(folder)
    weights.write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
    with pytest.raises(UserError, match="its hash differs"):
        robustkit.load_ensemble(folder)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"format": 99}, "has checkpoint format 99; this robustkit reads format 1"),
        ({"members": []}, "lacks members"),
        ({"classes": ["a", "b"]}, "does not fit ensemble.json: .*size mismatch"),
    ],
)
def test_json_that_does_not_fit(folder: Path, changes: dict, message: str):
    edit(folder, **changes)
    with pytest.raises(UserError, match=message):
        robustkit.load_ensemble(folder)


def test_json_that_is_no_json(folder: Path):
    (folder / "ensemble.json").write_text("{")
    with pytest.raises(UserError, match="cannot be read as JSON"):
        robustkit.load_ensemble(folder)


def test_a_checkpoint_cannot_run_code(folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    (tmp_path / "payload.py").write_text(
        "from pathlib import Path\nfrom robustkit.models import build as real\n"
        "Path(__file__).with_suffix('.ran').touch()\n"
        "def build(channels, classes): return real('small-resnet', channels, classes)\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(sys.modules, "payload", raising=False)  # of an earlier run in this process
    members = json.loads((folder / "ensemble.json").read_text())["members"]
    edit(folder, members=[{**m, "arch": "payload:build"} for m in members])
    with pytest.raises(UserError, match="needs the code 'payload:build', which is run only if you name it"):
        robustkit.load_ensemble(folder)
    assert not (tmp_path / "payload.ran").exists()
    robustkit.load_ensemble(folder, arch="payload:build")
    assert (tmp_path / "payload.ran").exists()
