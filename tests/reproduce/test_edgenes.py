"""The EdgeNES paper's tables and figures: its numbers, and tiny runs on digits."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch

from robustkit.base.errors import UserError
from robustkit.reproduce import (
    edgenes_figure31,
    edgenes_figure32,
    edgenes_figure41,
    edgenes_table1,
    edgenes_table2,
    edgenes_table3,
)
from robustkit.reproduce._ask import check
from robustkit.reproduce._search import PAPER, RETRAINING, Searches
from robustkit.reproduce.runner import reproduce
from robustkit.search._space import Space
from robustkit.study.config import ReproduceConfig

TINY = [
    "edgenes.epochs=1", "edgenes.hyper_share=2", "edgenes.width=4", "edgenes.partial=1", "edgenes.batch_size=256",
    "train.batch_size=256",
]  # fmt: skip


def run(name: str, out: Path, whose: str = "cifar100", **keywords: Any) -> dict[str, Any]:
    given: dict[str, Any] = {"settings": TINY, "epochs": 1, "n": 100, **keywords}
    return reproduce(name, dataset="digits", stands_for=whose, out=out, **given).to_json()


def test_numbers_read_from_the_paper():
    assert edgenes_table1.PAPER[2] == ((62.4, 2.0), (57.7, 2.1))
    assert edgenes_table2.PAPER[0] == ((46.2, 2.5), (43.9, 7.7))
    assert edgenes_table3.PAPER["EdgeNES"] == ((48.1, 1.7), 2.1)
    assert edgenes_table3.PAPER["Random"] == ((44.6, 6.9), 0.0)
    assert edgenes_figure41.P_VALUE == 0.0287
    assert (PAPER["epochs"], PAPER["epochs"] * PAPER["hyper_share"], RETRAINING["epochs"]) == (50, 150, 50)


def test_figure_31_says_what_missed_lambda(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(edgenes_figure31, "SAMPLES", 100)
    written = run("edgenes-figure31", tmp_path)
    rows = {(c["row"], c["column"]): c for c in written["comparisons"]}
    assert len(rows) == 4 * 4
    errors = [abs(rows[f"lambda {lam}", "one lambda a step, margin 0.2"]["ours"] - lam) for lam in range(4)]
    assert written["claims"][0]["holds"] == (max(errors) < 0.5)
    assert f"{errors[3]:.2f} edges" in written["claims"][0]["measured"]
    differ = {d["setting"]: (d["paper"], d["ours"]) for d in written["settings_that_differ"]}
    assert differ["edgenes.epochs"] == (50, 1)
    assert differ["edgenes.hyper_share"] == (3.0, 2.0)
    assert "edgenes.margin" not in differ
    assert (tmp_path / "figures" / "shared-edges.svg").is_file()


def test_figure_32_trains_what_is_drawn_and_the_same_command_trains_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(edgenes_figure32, "EACH", 1)
    written = run("edgenes-figure32", tmp_path)
    assert [c["row"] for c in written["comparisons"]] == [f"lambda {lam}" for lam in range(4)]
    assert all(0 < c["ours"] <= 100 and c["spread"] is not None for c in written["comparisons"])
    monkeypatch.setattr("robustkit.pipeline.models_under_test.fit", lambda *_, **__: pytest.fail("trained again"))
    monkeypatch.setattr("robustkit.search._alternate.Alternation.epoch", lambda *_: pytest.fail("searched again"))
    assert run("edgenes-figure32", tmp_path) == written


def test_table_1_compares_warmed_with_constant(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    made = []

    def around(_: Searches, seed: int, **changes: Any) -> tuple[int, bool]:
        made.append(changes)
        return seed, changes["warm_weight"]

    def accuracy(_: Searches, around: tuple[int, bool], lam: float, seed: int) -> float:
        return 50 + 10 * around[1] + lam + seed

    monkeypatch.setattr(Searches, "around", around)
    monkeypatch.setattr(Searches, "accuracy_at", accuracy)
    written = run("edgenes-table1", tmp_path, "cifar10")
    rows = {(c["row"], c["column"]): c for c in written["comparisons"]}
    assert (rows["2 common edges", "On"]["ours"], rows["2 common edges", "On"]["paper"]) == (62.5, 62.4)
    assert rows["3 common edges", "Off"]["ours"] == 53.5
    assert rows["3 common edges", "Off"]["spread"] == pytest.approx(np.std([0, 1], ddof=1))
    assert "| 53.5 +- 0.7 |" in (tmp_path / "reproduction.md").read_text()
    assert {(m["warm_weight"], m["warm_temperature"]) for m in made} == {(True, True), (False, False)}


def test_table_2_replaces_what_is_not_shared(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    optimum = Space(6).random(torch.Generator().manual_seed(1))
    monkeypatch.setattr(Searches, "around", lambda *_: SimpleNamespace(optimum=optimum))
    monkeypatch.setattr(Searches, "accuracy_at", lambda _, __, lam, ___: 90 + lam)
    monkeypatch.setattr(Searches, "retrained", lambda _, genotype, __: genotype)
    monkeypatch.setattr(Searches, "accuracy", lambda _, genotype: 80 + genotype.shared(optimum))
    written = run("edgenes-table2", tmp_path)
    ours = {(c["row"], c["column"]): c["ours"] for c in written["comparisons"]}
    assert [ours[f"{lam} shared edges", "Random Deviation"] for lam in range(4)] == [80, 81, 82, 83]
    assert [ours[f"{lam} shared edges", "Hypernetwork"] for lam in range(4)] == [90, 91, 92, 93]
    assert [claim["holds"] for claim in written["claims"]] == [True, True]


def searched(accuracies: dict[str, float], seconds: dict[str, float]) -> Any:
    """A stand-in for whole searches: what they gave and cost by method."""

    def search(_: Searches, name: str, members: int, seed: int, folder: str, **changes: Any) -> dict[str, Any]:
        own = [accuracies[name] - 0.02, accuracies[name] - 0.01, accuracies[name]]
        costs = {"optimum": {"seconds": seconds[name]}, "training": {"seconds": 99.0}, "choice": {"seconds": 9.0}}
        return {"metrics": {"test_accuracy": accuracies[name], "test_member_accuracy": own}, "costs": costs}

    return search


def test_table_3_counts_the_search_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    accuracy = {"darts-ensemble": 0.9, "random": 0.8, "random-deviation": 0.85, "edgenes": 0.88}
    seconds = {"darts-ensemble": 30.0, "random": 0.0, "random-deviation": 10.0, "edgenes": 17.0}
    monkeypatch.setattr(Searches, "searched", searched(accuracy, seconds))
    written = run("edgenes-table3", tmp_path)
    rows = {(c["row"], c["column"]): (c["ours"], c["paper"]) for c in written["comparisons"]}
    cost = "cost of the search, of one DARTS"
    assert rows[cost, "DartsEns"] == pytest.approx((3.0, 3.0))
    assert rows[cost, "EdgeNES"] == pytest.approx((1.7, 1.75))
    assert rows[cost, "Random"] == (0, 0)
    assert rows["test accuracy", "EdgeNES"] == pytest.approx((88, 48.1))
    assert rows["test accuracy", "DARTS"] == pytest.approx((89, 46.8))
    assert [claim["holds"] for claim in written["claims"]] == [True, True]


def test_figure_41_gives_both_methods_the_same_epochs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    asked = []

    def search(_: Searches, name: str, members: int, seed: int, folder: str, **changes: Any) -> dict[str, Any]:
        hyper = round(changes.get("hyper_share", 0) * changes["epochs"])
        asked.append(changes["epochs"] * (members if name == "darts-ensemble" else 1) + hyper)
        accuracy = 0.9 + (name == "edgenes") * 0.05 + seed / 1000
        return {"metrics": {"test_accuracy": accuracy}}

    monkeypatch.setattr(Searches, "searched", search)
    written = run("edgenes-figure41", tmp_path)
    assert asked == [6, 12] * 4
    rows = {(c["row"], c["column"]): c["ours"] for c in written["comparisons"]}
    assert rows["mean over epochs (area under the curve)", "EdgeNES"] == pytest.approx(95.05)
    assert rows["p of a t-test between the areas", "both"] < 0.001
    assert written["claims"][0]["holds"]
    assert "1.33" in written["claims"][1]["measured"]


def test_area_under_a_curve_is_its_mean_over_epochs():
    assert edgenes_figure41.area((6, 12, 24), (10, 20, 20)) == pytest.approx((6 * 15 + 12 * 20) / 18)


def test_what_is_refused(tmp_path: Path):
    with pytest.raises(UserError, match="--arch lenet has no effect on edgenes-figure31"):
        run("edgenes-figure31", tmp_path, arch="lenet")
    with pytest.raises(UserError, match="unknown method in --set 'edgens'.*did you mean 'edgenes'"):
        check(ReproduceConfig("edgenes-figure31", settings=["edgens.epochs=1"]))
    with pytest.raises(UserError, match="method 'edgenes' has no parameter 'epoch'"):
        run("edgenes-figure31", tmp_path, settings=["edgenes.epoch=1"])
