"""The design-diversity paper's figures: what they are made of, and tiny runs on digits."""

from __future__ import annotations

import itertools
import json
import math
from pathlib import Path

import numpy as np
import pytest
import torch
from test_end_to_end import run
from torch import nn

from robustkit.base.errors import UserError
from robustkit.ensembles.checkpoint import read_meta
from robustkit.metrics.maps import map_variance
from robustkit.records.samples import Samples
from robustkit.reproduce import (
    _design_diversity,
    design_diversity_figure9,
    design_diversity_figure10,
    design_diversity_table2,
)
from robustkit.reproduce._ask import check
from robustkit.reproduce._parts import Recipe
from robustkit.study.config import ReproduceConfig

FIGURE_9 = [
    "supernet.pretraining=1", "supernet.widths=2,4", "supernet.evaluations=6", "supernet.population=4",
    "supernet.batch_size=512", "supernet.subnetworks=6",
]  # fmt: skip


def test_the_papers_numbers():
    table = design_diversity_table2.PAPER
    assert table["Hetero."][1][3] == 0.77  # wrong, lines
    assert table["Pred. div."][0][:3] == (0.10, 0.13, 0.29)
    assert table["Att. div."][1] == (0.46, 0.49, 0.62, 0.60, 0.57, 0.58)
    assert {len(numbers) for rows in table.values() for numbers in rows} == {len(design_diversity_table2.SETS)}
    assert math.comb(len(_design_diversity.POOL), 3) == 364
    assert math.comb(_design_diversity.LISTING_1["subnetworks"], 3) == 165
    by = {column.name: column.recipe for column in _design_diversity.POOL}
    assert all(isinstance(recipe, Recipe) for recipe in by.values())
    assert (by["Squeezenet_512"].train["batch_size"], by["Squeezenet"].train["lr"]) == (512, 0.01)
    assert (by["deit_tiny_p16_224"].epochs, by["dino_resnet1"].train["lr"]) == (300, 0.03)


def test_the_papers_data_have_no_name_of_their_own():
    with pytest.raises(UserError, match="has numbers for imagenet, which has no name here; add .* --as imagenet"):
        check(ReproduceConfig("design-diversity-figure5"))
    asked = check(
        ReproduceConfig("design-diversity-figure8", dataset="digits", stands_for="imagenet", settings=FIGURE_9)
    )
    assert asked.settings["supernet"]["widths"] == "2,4"


def test_attribution_diversity_of_linear_models_is_that_of_their_weights():
    """Saliency of x W is |W|, integrated gradients x W for any number of passes."""
    torch.manual_seed(0)
    members: list[nn.Module] = [nn.Sequential(nn.Flatten(), nn.Linear(16, 3)) for _ in range(3)]
    x, y = torch.rand(5, 1, 4, 4), torch.tensor([0, 1, 2, 0, 1])
    found = design_diversity_figure9.pair_diversities(members, x, y)
    weights = np.stack([m[1].weight.detach().numpy()[y] for m in members])  # type: ignore[index]
    for at, pair in enumerate(itertools.combinations(range(3), 2)):
        own = weights[list(pair)]
        assert found["saliency"][at] == pytest.approx(map_variance(np.abs(own)).mean(), rel=1e-4)
        signed = map_variance(own * x.flatten(1).numpy()).mean()
        for steps in design_diversity_figure9.STEPS:
            assert found[f"integrated, {steps}"][at] == pytest.approx(signed, rel=1e-3)


def test_what_is_said_of_figure_10_is_read_from_the_accuracies():
    names = [column.name for column in design_diversity_figure10.COLUMNS]
    corruptions = ("plasma_noise", "checkerboard_cutout", "water_drop", "lines")
    found = {name: {"clean": 0.9, **dict.fromkeys(corruptions, 0.5)} for name in names}
    better, enforced = design_diversity_figure10.claims(found)
    assert (better.holds, enforced.holds) == (False, True)
    found["balanced"] |= dict.fromkeys(corruptions[:3], 0.6)
    found["GNCL median"]["lines"] = 0.8
    better, enforced = design_diversity_figure10.claims(found)
    assert (better.holds, enforced.holds) == (True, False)
    assert "at most 57.5 % (GNCL median)" in enforced.measured


def test_equitability_by_hand():
    """Three votes: all one class 0, two and one .58, all different 1; the second and third image are wrong."""
    votes = np.array([[0, 1, 0], [0, 1, 1], [0, 2, 2]])
    logits = np.eye(3, dtype=np.float32)[votes] * 5
    fused = logits.mean(0)
    none = np.zeros(3, np.int64)
    samples = Samples(
        ids=np.arange(3), y=np.array([0, 2, 2]), target=none - 1, member_logits=logits, fused=fused, l0=none, l1=none,
        l2=none, linf=none, forwards=none, backwards=none, seconds=none, status=none, carried=none,
        history=np.zeros((0, 0), np.float32), examples=np.zeros(0, np.float32),
    )  # fmt: skip
    right, wrong = design_diversity_table2.equitability(samples)
    two_and_one = (math.log(3) - 2 / 3 * math.log(2)) / math.log(3)
    predictions = fused.argmax(1)
    expected = {0: 0.0, 1: two_and_one, 2: 1.0}
    by = {True: [], False: []}
    for at in range(3):
        by[bool(predictions[at] == samples.y[at])].append(expected[at])
    assert right == pytest.approx(np.mean(by[True]))
    assert wrong == pytest.approx(np.mean(by[False]))


@pytest.fixture
def four(monkeypatch: pytest.MonkeyPatch) -> None:
    """Four of the fourteen models, for time: those that differ though all get one batch size and learning rate."""
    chosen = tuple(_design_diversity.POOL[at] for at in (3, 4, 5, 10))
    monkeypatch.setattr(_design_diversity, "POOL", chosen)


def test_figures_of_the_pool_are_the_pools_numbers(four: None, tmp_path: Path):
    written = run("design-diversity-figure5", tmp_path, "imagenet", n=40)
    pool = json.loads((tmp_path / "evaluations" / "pool" / "results.json").read_text())["pools"][0]
    rows = {r["row"]: r for r in written["comparisons"]}
    assert (rows["ensembles"]["ours"], rows["ensembles"]["paper"]) == (4, 364)
    own = next(r for r in pool["sets"][0]["rules"] if r["rule"] == "mean-logit")
    assert rows["mean gain"]["ours"] == pytest.approx(100 * own["mean_gain"])
    r = next(
        c["pearson"]
        for c in pool["sets"][0]["correlations"]
        if (c["rule"], c["measure"]) == ("mean-logit", "oracle_disagreement")
    )
    assert rows["r of gain and disagreement (eq. 4)"]["ours"] == r
    assert written["claims"][1]["holds"] == (r is not None and r < 0)
    differ = {d["setting"]: (d["paper"], d["ours"]) for d in written["settings_that_differ"]}
    assert differ["optimiser of MNASNET_1p"] == ("rmsprop, lr .256", "adam")
    assert differ["test images (pool)"] == (50_000, 40)
    sizes = {c.name: read_meta(tmp_path / "ensembles" / c.name.lower().replace("_", "-"))["training"]["batch_size"]
             for c in _design_diversity.POOL}  # fmt: skip
    assert set(sizes.values()) == {256}  # --set train.batch_size goes before each model's own


def test_figure_9_searches_once_for_all(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    pytest.importorskip("pymoo", reason="NSGA-II is pymoo's: pip install pymoo")
    monkeypatch.setenv("ROBUSTKIT_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr("robustkit.search._choosing.TRIED", 3)
    monkeypatch.setattr(design_diversity_figure9, "STEPS", (2, 3))
    given = {"n": 8, "arch": None, "settings": FIGURE_9}
    written = run("design-diversity-figure9", tmp_path / "a", "imagenet", **given)
    assert written["comparisons"][0]["paper"] == 0.998
    assert -1 <= written["comparisons"][0]["ours"] <= 1
    assert {"supernet.epochs", "supernet.evaluations"} <= {d["setting"] for d in written["settings_that_differ"]}
    monkeypatch.setattr("robustkit.api.search", lambda *_, **__: pytest.fail("searched again"))
    again = run("design-diversity-figure9", tmp_path / "b", "imagenet", **given)
    assert again["comparisons"] == written["comparisons"]


@pytest.mark.parametrize(
    ("name", "figures", "claims"),
    [
        ("design-diversity-figure6", 1, 4),
        ("design-diversity-figure7", 1, 2),
        ("design-diversity-figure10", 1, 2),
        ("design-diversity-table2", 0, 1),
    ],
)
def test_every_other_one_runs_and_draws(
    name: str, figures: int, claims: int, four: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(design_diversity_table2, "UNLIKE", ("MNASNET_1", "MNASNET_1p", "dino_deit_tiny1"))
    monkeypatch.setattr(design_diversity_figure10, "COLUMNS", design_diversity_figure10.COLUMNS[::3])
    written = run(name, tmp_path, "imagenet")
    assert (len(written["figures"]), len(written["claims"])) == (figures, claims)
    for figure in written["figures"]:
        assert (tmp_path / figure).read_bytes().startswith(b"\x89PNG")
    rows = {(r["row"], r["column"]): r for r in written["comparisons"]}
    if name.endswith("table2"):
        assert rows["H wrong, LI", "Hetero."]["paper"] == 0.77
        assert len(rows) == 2 * 5 * 3
        assert len(read_meta(tmp_path / "ensembles" / "hetero")["members"]) == 3
    if name.endswith("figure10"):
        results = json.loads((tmp_path / "evaluations" / "corruptions" / "results.json").read_text())
        own = next(r for r in results["corruptions"] if r["ensemble"] == "balanced")
        level = next(row for row in own["levels"] if row["corruption"] == "lines")
        assert rows["lines", "balanced"]["ours"] == pytest.approx(100 * level["accuracy"])
    if name.endswith("figure7"):
        assert len({row for row, _ in rows}) == 4
        assert {column for _, column in rows} == {
            "clean", "plasma_noise", "checkerboard_cutout", "water_drop", "lines",
        }  # fmt: skip
