"""Who changes the code of a network gets new numbers: neither a training nor a cell of the old code stands for it."""

from __future__ import annotations

from pathlib import Path

import pytest

from robustkit import data, models
from robustkit.ensembles.ensemble import Ensemble, Member
from robustkit.models import _files
from robustkit.pipeline.models_under_test import record_of, train_spec
from robustkit.records.cells import Spec, digest
from robustkit.training.spec import TrainSpec

NET = """
from torch import nn


def net(channels, classes):
    return nn.Sequential(nn.Flatten(), nn.Linear(channels * 64, classes){more})
"""


@pytest.fixture(params=["file", "module"])
def arch(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> tuple[str, Path]:
    """An architecture that is code, and its file."""
    path = tmp_path / f"net_of_a_{request.param}.py"
    path.write_text(NET.format(more=""))
    monkeypatch.chdir(tmp_path)
    return (f"{path.name}:net" if request.param == "file" else f"{path.stem}:net"), path


def training(few_digits: data.Dataset, arch: str) -> TrainSpec:
    return train_spec(Spec("defense", "baseline"), few_digits, {"arch": arch, "members": 2})


def test_a_training_of_other_code_is_another_one(few_digits: data.Dataset, arch: tuple[str, Path]):
    name, path = arch
    before = training(few_digits, name)
    assert training(few_digits, name).key == before.key
    path.write_text(NET.format(more=", nn.Tanh()"))
    after = training(few_digits, name)
    assert after.key != before.key
    assert [line.partition(":")[0] for line in after.differences(before.to_json())] == ["arch_sha256"]
    assert "arch_sha256" not in training(few_digits, "lenet").to_json()  # of ours the version is enough


def test_cells_of_other_code_are_others(arch: tuple[str, Path], monkeypatch: pytest.MonkeyPatch):
    name, path = arch
    ensemble = Ensemble([Member(models.build(name, 1, 10))])

    def key() -> str:
        return record_of("e", "none", {}, [name], ensemble).key

    before = key()
    assert key() == before
    path.write_text(NET.format(more=", nn.Tanh()"))
    if name.endswith(".py:net"):
        assert key() == before  # this process goes on with the code that it has run
        monkeypatch.setattr(_files, "_READ", {})
    assert key() != before  # the next process runs the new one
    own = record_of("e", "none", {}, ["lenet"], ensemble)
    named = {"weights": ensemble.fingerprint(), "fusion": ensemble.fusion, "arch": ["lenet"]}
    assert own.key == digest(named)  # as it was before code counted: old stores are found


@pytest.mark.parametrize(
    "arch", ["lenet", "missing.py:net", "no_such_module:net", "not/identifier:net", "torch.nn:Linear"]
)
def test_what_has_no_file_has_no_digest_or_that_of_its_module(arch: str):
    assert bool(models.source_digest(arch)) == (arch == "torch.nn:Linear")
