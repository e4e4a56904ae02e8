"""EdgeNES on a few images and a cell of two edges: what it gives, what it refuses, and a kill in the middle."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from robustkit import data
from robustkit.base.errors import UserError
from robustkit.base.progress import Reporter
from robustkit.models import build
from robustkit.models._genotype import from_json
from robustkit.search import _alternate, get, method
from robustkit.search._around import Around, Dial
from robustkit.search._hypernetwork import Hypernetwork
from robustkit.search._lab import Found, SearchLab
from robustkit.search._space import Space

SMALL = {"epochs": 1, "hyper_share": 3.0, "nodes": 5, "width": 4, "partial": 1, "batch_size": 11, "candidates": 3}


@pytest.fixture(scope="module")
def few() -> data.Dataset:
    split = data.load("digits").split("train")
    return data.in_memory((split.x[:96], split.y[:96]))


def lab(few: data.Dataset, folder: Path, members: int = 2) -> SearchLab:
    return SearchLab(
        few, members=members, seed=0, device=torch.device("cpu"), folder=folder, reporter=Reporter(), asked={}
    )


def found(few: data.Dataset, folder: Path, **params: object) -> list[Found]:
    return get("edgenes")(lab(few, folder), **{**SMALL, **params})


def test_finds_candidates_over_the_range_of_lambda(few: data.Dataset, tmp_path: Path):
    candidates = found(few, tmp_path)
    genotypes = [from_json(one.arch_params["genotype"]) for one in candidates]
    assert [int(one.facts["lambda"] * 3 / 2) for one in candidates] == [0, 1, 2]
    assert len(set(genotypes)) == 3
    for one, genotype in zip(candidates, genotypes, strict=True):
        assert one.facts["architecture"] == str(genotype)
        shared = set(str(genotype).split(", ")) & set(one.facts["optimum"].split(", "))
        assert one.facts["shared_edges"] == len(shared)
        assert build(one.arch, 1, 10, one.arch_params)(torch.rand(2, 1, 8, 8)).shape == (2, 10)
    assert [row["lambda"] for row in candidates[0].facts["sampled_shared_edges"]] == [0, 1, 2]


def test_counts_what_both_searches_cost_and_trains_weights_on(few: data.Dataset, tmp_path: Path):
    work = lab(few, tmp_path)
    get("edgenes")(work, **SMALL)
    half = len(work.weights.y)
    assert {name: (cost.forward, cost.backward) for name, cost in work.costs.items()} == {
        "optimum": (2 * half, 2 * half), "hypernetwork": (6 * half, 6 * half),
    }  # fmt: skip
    first, *_, last = work.histories["hypernetwork"]
    assert (first["c"], first["temperature"]) == pytest.approx((0.3, 1.0))
    assert (last["c"], last["temperature"]) == pytest.approx((0.3 + 2.7 * 2 / 3, 1 - 0.95 * 2 / 3))


def test_warming_can_be_switched_off(few: data.Dataset, tmp_path: Path):
    work = lab(few, tmp_path)
    get("edgenes")(work, **SMALL, warm_weight=False, warm_temperature=False)
    assert {(row["c"], round(row["temperature"], 6)) for row in work.histories["hypernetwork"]} == {(3.0, 0.05)}


def test_a_kill_inside_the_hypernetworks_training_changes_nothing(
    few: data.Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    whole = found(few, tmp_path / "whole")
    monkeypatch.setattr(_alternate, "BETWEEN_SAVES", 0.0)
    run = _alternate.Alternation.epoch

    def killed(work: _alternate.Alternation, advance: object) -> None:
        if work.name == "hypernetwork" and len(work.history) == 2:
            raise KeyboardInterrupt
        run(work, advance)

    monkeypatch.setattr(_alternate.Alternation, "epoch", killed)
    with pytest.raises(KeyboardInterrupt):
        found(few, tmp_path / "killed")
    epochs = []

    def counted(work: _alternate.Alternation, advance: object) -> None:
        epochs.append(work.name)
        run(work, advance)

    monkeypatch.setattr(_alternate.Alternation, "epoch", counted)
    resumed = found(few, tmp_path / "killed")
    assert epochs == ["hypernetwork"]  # of four epochs only the one that was not done
    assert resumed == whole


def test_the_dial_chooses_how_much_is_shared(few: data.Dataset, tmp_path: Path):
    space = Space(5)
    optimum = space.random(torch.Generator().manual_seed(1))
    made = Hypernetwork(space.size, space.length, 2, generator=torch.Generator().manual_seed(2))
    with torch.no_grad():  # one end is the optimum, the other an architecture that shares nothing with it
        for row in made.vectors:
            row.zero_()
        alpha, beta = space.split(made.vectors[1])
        alpha.copy_(50 * space.one_hot(optimum))
        beta.copy_(50 * space.one_hot(optimum).sum(1))
        alpha, beta = space.split(made.vectors[0])
        alpha.copy_(-50 * space.one_hot(optimum))
    around = Around(space, optimum, made, Dial())
    generator = torch.Generator().manual_seed(3)
    assert around.sample(2.0, generator) == optimum
    assert around.sampled(2.0, 50, generator).tolist() == [2] * 50
    assert around.sampled(0.0, 50, generator).tolist() == [0] * 50
    assert around.candidates([2.0, 2.0], generator) == [optimum, optimum]


@pytest.mark.parametrize(
    ("params", "said"),
    [
        ({"candidates": 1}, "2 members cannot be chosen of 1 candidates; give --set edgenes.candidates=2 or more"),
        ({"lam": 2.5}, "edgenes.lam 2.5 is out of range; an architecture of 5 nodes has 2 edges"),
        ({"lam": -0.1}, "edgenes.lam -0.1 is out of range"),
        ({"pivots": 1}, "edgenes.pivots 1"),
        ({"draws": 0}, "edgenes.draws 0"),
        ({"margin": -1.0}, "edgenes.margin -1"),
        ({"hyper_share": -1.0}, "edgenes.hyper_share -1"),
        ({"tau": 0.4}, "edgenes.tau 0.4 is not in (0.5, 1]"),
    ],
)  # fmt: skip
def test_what_cannot_be_is_one_sentence_before_any_work(
    params: dict[str, object], said: str, few: data.Dataset, tmp_path: Path
):
    with pytest.raises(UserError) as error:
        found(few, tmp_path, **params)
    assert said in str(error.value)
    assert not list(tmp_path.iterdir())


def test_is_registered_with_its_source():
    assert "EdgeNES" in method.entry("edgenes").facts["source"]
