"""The folder of a search: what it may be, what a second search leaves in it; and that two seeds share nothing."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from robustkit import api, data
from robustkit.auditing._formats import _small_all
from robustkit.base.errors import UserError
from robustkit.base.progress import Reporter
from robustkit.ensembles.checkpoint import load_ensemble
from robustkit.models._genotype import PLAIN
from robustkit.search import _alternate, _choose, _drawing, _folder, run
from robustkit.search._folder import PROGRESS, RECORD
from robustkit.search._lab import SearchLab, first_seed
from robustkit.training.untrained import accuracies

SMALL = {"darts.batch_size": 32, "darts.width": 4, "darts.nodes": 4, "darts.partial": 1, "train.batch_size": 96}
DRAWN = {"random.candidates": 3, "random.nodes": 4, "random.width": 4, "train.batch_size": 96}


@pytest.fixture(scope="module")
def few(digits: data.Dataset) -> data.Dataset:
    keep = {"train": 96, "validation": 60, "test": 60}
    source = replace(digits.source, read=lambda name: digits.split(name).take(keep[name]))
    return replace(digits, source=source, _splits={})


def asked(out: Path, few: data.Dataset, **changed: Any) -> dict[str, Any]:
    given = {"dataset": few, "members": 1, "epochs": 1, "out": out, "device": "cpu", "speed": "off", "workers": 1}
    return {**given, **changed}


def test_a_folder_of_something_else_is_left_alone(few: data.Dataset, tmp_path: Path):
    (tmp_path / "weights.safetensors").write_text("another's")
    with pytest.raises(UserError, match=r"holds something else \(weights.safetensors\); .* or add --force"):
        api.search("random", **asked(tmp_path, few, settings=DRAWN))
    api.search("random", **asked(tmp_path, few, settings=DRAWN, force=True))
    assert len(load_ensemble(tmp_path)) == 1


def test_a_search_killed_in_the_folder_of_one_that_is_done_goes_on(
    few: data.Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    api.search("darts", **asked(tmp_path, few, search_epochs=1, settings=SMALL))
    assert (tmp_path / PROGRESS / "darts.pt").is_file()
    monkeypatch.setattr(_alternate, "BETWEEN_SAVES", 0.0)
    plain, numbers = _alternate.Alternation.epoch, []

    def epoch(self: Any, advance: Any) -> None:
        numbers.append(len(self.history))
        if numbers == [0, 1]:
            raise KeyboardInterrupt
        plain(self, advance)

    monkeypatch.setattr(_alternate.Alternation, "epoch", epoch)
    for _ in range(2):
        try:
            api.search("darts", **asked(tmp_path, few, search_epochs=3, settings=SMALL))
        except KeyboardInterrupt:
            with pytest.raises(UserError, match="is a search that was interrupted and differs in params"):
                api.search("darts", **asked(tmp_path, few, search_epochs=2, settings=SMALL))
    assert numbers == [0, 1, 1, 2]


def kept(folder: Path) -> dict[str, bytes]:
    """Return every file of a search that is done, by its place; without what a search in progress keeps."""
    files = [path for path in folder.rglob("*") if path.is_file() and PROGRESS not in path.parts]
    return {str(path.relative_to(folder)): path.read_bytes() for path in files}


def interrupted(monkeypatch: pytest.MonkeyPatch, owner: Any, name: str, *args: Any, **given: Any) -> None:
    """Search, and be killed where a function is called."""

    def killed(*_: Any, **__: Any) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(owner, name, killed)
        with pytest.raises(KeyboardInterrupt):
            api.search(*args, **given)


def test_one_that_is_done_stays_whole_until_another_takes_its_place(
    few: data.Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    api.search("random", **asked(tmp_path, few, settings={**DRAWN, "random.candidates": 4}))
    (tmp_path / "candidates" / "mine").mkdir()
    (tmp_path / "candidates" / "mine" / "notes.txt").write_text("somebody's own")
    before = kept(tmp_path)
    again = {"settings": DRAWN, "seed": 1}

    for module, name in ((_choose, "best"), (_drawing, "draw")):  # when all candidates are trained, and written
        interrupted(monkeypatch, module, name, "random", **asked(tmp_path, few, **again))
        assert kept(tmp_path) == before
    # While the candidates take their places there is no record of either search.
    for module, name in ((run, "save_ensemble"), (_folder.SearchFolder, "close")):
        interrupted(monkeypatch, module, name, "random", **asked(tmp_path, few, **again))
        assert not (tmp_path / RECORD).exists()
    record = api.search("random", **asked(tmp_path, few, **again))
    names = {one["name"] for one in record["candidates"]}
    assert len(names) == 3
    assert {path.name for path in (tmp_path / "candidates").iterdir()} == {*names, "mine"}
    alone = api.search("random", **asked(tmp_path / "alone", few, **again))
    for name in names:
        weights = Path("candidates") / name / "weights.safetensors"
        assert (tmp_path / weights).read_bytes() == (tmp_path / "alone" / weights).read_bytes()
    assert alone["chosen"] == record["chosen"]


@pytest.mark.parametrize("first", ["darts", "random"])
def test_another_method_is_refused_while_one_is_not_done(
    first: str, few: data.Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    given = {
        "darts": {"settings": {**SMALL, "darts.epochs": 1}},
        "random": {"settings": DRAWN, "members": 1},
    }  # fmt: skip

    # That of darts has a state by then; the candidates of random, which has none, have not even been trained.
    interrupted(monkeypatch, run, "train_all", first, **asked(tmp_path, few, **given[first]))
    (second,) = given.keys() - {first}
    with pytest.raises(
        UserError, match=f"is a search that was interrupted and differs in method: {second}, there {first}"
    ):
        api.search(second, **asked(tmp_path, few, **given[second]))
    api.search(first, **asked(tmp_path, few, **given[first]))
    assert api.search(second, **asked(tmp_path, few, **given[second]))["method"] == second  # one that is done gives way


def test_what_was_refused_before_any_training_leaves_the_folder_free(few: data.Dataset, tmp_path: Path):
    with pytest.raises(UserError, match="members cannot be chosen of 3 candidates"):
        api.search("random", **asked(tmp_path, few, settings=DRAWN, members=4))
    assert api.search("random", **asked(tmp_path, few, settings=DRAWN, members=2, seed=3))["seed"] == 3


@pytest.mark.parametrize("fusion", ["crossmax", "majority"])
def test_validation_accuracy_is_that_of_the_ensemble(fusion: str, few: data.Dataset, tmp_path: Path):
    record = api.search("random", **asked(tmp_path, few, settings=DRAWN, members=2, fusion=fusion))
    found, _ = accuracies(load_ensemble(tmp_path), few.split("validation"))
    assert record["metrics"]["validation_accuracy"] == pytest.approx(found)
    assert json.loads((tmp_path / "ensemble.json").read_text())["fusion"] == fusion


def test_two_seeds_share_no_network(few: data.Dataset, tmp_path: Path):
    networks = []
    for seed in (0, 1):
        api.search("darts", **asked(tmp_path / str(seed), few, members=2, search_epochs=1, settings=SMALL, seed=seed))
        every = sorted((tmp_path / str(seed) / "candidates").iterdir())
        networks += [(path / "weights.safetensors").read_bytes() for path in every]
    assert len({*networks}) == 4


def test_first_weights_of_any_seed(few: data.Dataset, tmp_path: Path):
    assert first_seed(3, 2) == 3_000_011
    for seed in (10**14, -1, 2**62):
        lab = SearchLab(
            few, members=1, seed=seed, device=torch.device("cpu"), folder=tmp_path, reporter=Reporter(), asked={}
        )
        torch.Generator().manual_seed(first_seed(lab.seed, 5))


def test_a_drawing_is_the_same_byte_by_byte():
    assert _drawing._by_matplotlib(PLAIN, "one") == _drawing._by_matplotlib(PLAIN, "one")


def test_what_comes_out_is_audited(few: data.Dataset, tmp_path: Path):
    api.search("random", **asked(tmp_path / "found", few, settings=DRAWN, members=2))
    audited = api.audit(
        tmp_path / "found", dataset=few, device="cpu", n=20, attacks="fgsm", eps=0.1, suites="attacks", trust="off",
        reference=False, force=True, formats=(), out=tmp_path / "audit",
    )  # fmt: skip
    assert len(audited["ensembles"]) == 1


def test_parameters_of_subnetworks_and_genotypes_are_small_ones():
    assert _small_all({"genotype": PLAIN.to_json(), "cells": 2})
    assert _small_all([0, 2, 1])
    assert not _small_all([10**9])
    assert not _small_all([0] * 1000)
    assert not _small_all([[[[[[1]]]]]])
