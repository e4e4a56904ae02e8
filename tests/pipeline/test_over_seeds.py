"""A study over seeds: what is trained and attacked, mean and deviation by hand, tables and curves, kills."""

from __future__ import annotations

import json
import os
import signal
import statistics
import time
from pathlib import Path
from typing import Any

import pytest
import torch
from in_process import invoke

from robustkit import api
from robustkit.functional.stats import wilson
from robustkit.pipeline.over_seeds import over_seeds
from robustkit.records.cells import EnsembleRecord
from robustkit.reports import _format as f
from robustkit.reports._curves import clean_points, curve_points
from robustkit.reports._over_seeds import _over
from robustkit.reports._table import Cell
from robustkit.reports._tables import find, tables

STUDY = """
defense = ["baseline", "gncl"]
seeds = "0-2"
arch = "networks:perceptron"
epochs = 1
members = 2
n = 40
attacks = "pgd"
eps = [0.05, 0.1]
speed = "off"
workers = 1
trust = "off"
reference = false
format = ["md", "tex-each", "csv"]
[set.pgd]
steps = 3
"""


TIMES = ("seconds", "environment", "run", "advice", "path")  # a checkpoint's is in the cache


def numbers(folder: Path) -> dict[str, Any]:
    """Return the results without what differs between two runs of one study: times, and --out in the advice."""

    def kept(value: Any) -> Any:
        if isinstance(value, dict):
            return {key: kept(one) for key, one in value.items() if key not in TIMES}
        return [kept(one) for one in value] if isinstance(value, list) else value

    found: dict[str, Any] = kept(json.loads((folder / "results.json").read_text("utf-8")))
    return found


def cells(out: Path) -> list[dict[str, Any]]:
    """Return the stored cells of an evaluation."""
    records = [path for path in (out / "runs").glob("*.json") if path.stem != "study"]
    return [json.loads(path.read_text("utf-8"))["cell"] for path in records]


@pytest.fixture(scope="module")
def study(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The study, run; its folder."""
    folder = tmp_path_factory.mktemp("study")
    (folder / "study.toml").write_text(STUDY, "utf-8")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("ROBUSTKIT_CACHE", str(folder / "cache"))
        code, _, err = invoke("run", folder / "study.toml", "--out", folder / "out")
    assert code == 0, err
    return folder


def test_every_seed_is_trained_and_attacked(study: Path):
    results = numbers(study / "out")
    assert [(e["id"], e["group"], e["seed"]) for e in results["ensembles"]] == [
        (f"{group}-seed{seed}", group, seed) for group in ("baseline", "gncl") for seed in range(3)
    ]  # fmt: skip
    assert len({e["weights_sha256"] for e in results["ensembles"]}) == 6
    runs = json.loads((study / "out/runs/study.json").read_text("utf-8"))
    seeds = {e["key"]: e["seed"] for e in runs["ensembles"]}
    attacked = [cell for cell in cells(study / "out") if cell["kind"] != "clean"]
    assert len(attacked) > 6
    assert all(cell["seed"] == seeds[cell["ensemble"]] for cell in attacked)


def test_one_seed_of_a_study_is_the_evaluation_with_that_seed(study: Path, tmp_path: Path, monkeypatch):
    monkeypatch.setenv("ROBUSTKIT_CACHE", str(study / "cache"))
    (tmp_path / "one.toml").write_text(STUDY.replace('seeds = "0-2"', "seed = 1"), "utf-8")
    assert invoke("evaluate", "--config", tmp_path / "one.toml", "--out", tmp_path / "out")[0] == 0
    alone = {(w["ensemble"], w["eps"]): w["robust_accuracy"] for w in numbers(tmp_path / "out")["worst_case"]}
    among = {(w["ensemble"], w["eps"]): w["robust_accuracy"] for w in numbers(study / "out")["worst_case"]}
    assert alone == {(name.removesuffix("-seed1"), e): v for (name, e), v in among.items() if name.endswith("seed1")}


def test_mean_and_deviation_of_every_number(study: Path):
    results = numbers(study / "out")
    worst = [o for o in results["over_seeds"] if o["metric"] == "worst_case"]
    assert {(o["group"], o["eps"]) for o in worst} == {(g, e) for g in ("baseline", "gncl") for e in (0.05, 0.1)}
    for o in worst:
        own = [
            w["robust_accuracy"]
            for w in results["worst_case"]
            if w["ensemble"] in o["ensembles"] and w["eps"] == o["eps"]
        ]
        assert o["values"] == own
        assert o["mean"] == pytest.approx(sum(own) / 3)
        assert o["std"] == pytest.approx((sum((v - sum(own) / 3) ** 2 for v in own) / 2) ** 0.5)
        assert o["ci95"] == pytest.approx(wilson(o["mean"] * 40, 40))


def test_tables_latex_and_curves_have_them(study: Path):
    results = json.loads((study / "out/results.json").read_text("utf-8"))
    every = tables(results)
    table = find(every, "worst-case")
    assert table is not None
    assert table.columns == ["eps", "baseline", "gncl"]
    by = {(o["group"], o["eps"]): o for o in results["over_seeds"] if o["metric"] == "worst_case"}
    for row, eps in zip(table.rows, (0.05, 0.1), strict=True):
        for cell, group in zip(row[1:], table.columns[1:], strict=True):
            o = by[group, eps]
            assert cell.text.startswith(f"{100 * o['mean']:.1f} ± {100 * o['std']:.1f} [")
    each = find(every, "worst-case-each-seed")
    assert each is not None
    assert len(each.columns) == 7
    robust = find(every, "robustness")
    assert robust is not None
    assert robust.columns[-1] == "gncl - baseline"  # of one seed each, then over seeds
    assert r"$\pm$" in (study / "out/tables/worst-case.tex").read_text("utf-8")
    assert "std" in (study / "out/tables/worst-case.csv").read_text("utf-8").splitlines()[0]
    points = curve_points(results)
    assert {name for _, _, name in points} == {"baseline", "gncl"} == set(clean_points(results))
    for (_, attack, name), found in points.items():
        for point in found if attack == "worst case" else ():
            o = by[name, point.eps]
            assert point.share == pytest.approx(o["mean"])
            assert point.ci95[1] - point.ci95[0] == pytest.approx(
                min(1, o["mean"] + o["std"]) - max(0, o["mean"] - o["std"])
            )


def test_eight_numbers_by_hand():
    records = [EnsembleRecord(f"a-seed{s}", str(s), "a", {}, (), 1, "", "", group="a", seed=s) for s in (2, 4)]
    (alone,) = over_seeds(records, 10, [{"id": "a-seed2", "accuracy": 0.5}, {"id": "a-seed4", "accuracy": 0.9}], [], [])
    assert (alone["group"], alone["seeds"], alone["mean"]) == ("a", [2, 4], pytest.approx(0.7))
    assert alone["std"] == pytest.approx(0.4 / 2**0.5)
    assert alone["ci95"] == pytest.approx(wilson(7, 10))
    between = [{"id": "a-seed2", "accuracy": 0.5}, {"id": "a-seed4", "accuracy": 0.6}]  # five and a half of ten
    assert over_seeds(records, 10, between, [], [])[0]["ci95"] == pytest.approx([0.2737, 0.7986], abs=1e-4)
    assert over_seeds(records[:1], 10, [{"id": "a-seed2", "accuracy": 0.5}], [], []) == []  # one has no deviation


def test_the_resolved_study_gives_the_same_numbers(study: Path, tmp_path: Path, monkeypatch):
    monkeypatch.setenv("ROBUSTKIT_CACHE", str(study / "cache"))
    resolved = study / "out/study.resolved.toml"
    assert "[set.pgd]" in resolved.read_text("utf-8")
    assert invoke("run", resolved, "--out", tmp_path / "again")[0] == 0
    assert numbers(tmp_path / "again") == numbers(study / "out")
    stored = {path.name for path in (study / "out/runs").glob("*.npz")}
    assert {path.name for path in (tmp_path / "again/runs").glob("*.npz")} == stored  # the very same questions


def test_attack_seed_apart_from_the_training_seed(study: Path, tmp_path: Path, monkeypatch):
    monkeypatch.setenv("ROBUSTKIT_CACHE", str(study / "cache"))
    (tmp_path / "study.toml").write_text(STUDY, "utf-8")
    assert invoke("run", tmp_path / "study.toml", "--attack-seed", 7, "--out", tmp_path / "out")[0] == 0
    same = [e["weights_sha256"] for e in numbers(study / "out")["ensembles"]]
    assert [e["weights_sha256"] for e in numbers(tmp_path / "out")["ensembles"]] == same
    assert {cell["seed"] for cell in cells(tmp_path / "out") if cell["kind"] == "attack"} == {7}


def _until_killed(study: Path, cache: Path, out: Path, after: int) -> None:
    """Run the study in a process of its own and kill it once it has written so many files."""
    pid = os.fork()
    if pid == 0:
        os.environ["ROBUSTKIT_CACHE"] = str(cache)
        torch.set_num_threads(1)
        try:
            invoke("run", study / "study.toml", "--out", out)
        finally:
            os._exit(0)
    try:
        deadline = time.monotonic() + 60
        while len([*cache.rglob("*.json"), *out.rglob("*.npz")]) < after:
            if os.waitpid(pid, os.WNOHANG)[0]:
                pytest.fail(f"it was done before it had written {after} files")
            if time.monotonic() > deadline:
                pytest.fail(f"it has not written {after} files in a minute")
            time.sleep(0.002)
    finally:
        os.kill(pid, signal.SIGKILL)
    os.waitpid(pid, 0)


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
def test_killed_twice_it_ends_with_the_numbers_of_an_unkilled_one(study: Path, tmp_path: Path, monkeypatch):
    cache, out = tmp_path / "cache", tmp_path / "out"
    _until_killed(study, cache, out, after=3)  # among the trainings
    _until_killed(study, cache, out, after=12)  # among the cells
    assert not (out / "results.json").exists()
    monkeypatch.setenv("ROBUSTKIT_CACHE", str(cache))
    assert invoke("run", study / "study.toml", "--out", out)[0] == 0
    assert numbers(out) == numbers(study / "out")


def test_train_with_seeds_writes_a_checkpoint_each(tmp_path: Path):
    keywords = {"arch": "networks:perceptron", "epochs": 1, "members": 1, "speed": "off"}
    metrics = api.train(defense="baseline", seeds="0,3", out=tmp_path, **keywords)
    values = [metrics["seeds"][seed]["test_accuracy"] for seed in ("0", "3")]
    assert metrics["test_accuracy_std"] == pytest.approx(statistics.stdev(values))
    assert sorted(path.parent.name for path in tmp_path.glob("*/ensemble.json")) == ["baseline-seed0", "baseline-seed3"]


def test_the_page_begins_with_the_mean_and_holds_every_seed(study: Path, tmp_path: Path):
    results = api.report(study / "out", out=tmp_path, formats="html")
    page = (tmp_path / "report.html").read_text("utf-8")
    eps = max(w["eps"] for w in results["worst_case"])
    (o,) = [o for o in results["over_seeds"] if (o["metric"], o["group"], o["eps"]) == ("worst_case", "gncl", eps)]
    assert f"gncl keeps {100 * o['mean']:.1f} ± {100 * o['std']:.1f} %" in page
    assert "Worst case over all attacks, each seed" in page


def test_what_has_another_interval_than_wilsons_or_no_mean():
    def over(*texts: str) -> str:
        return str(_over([Cell(text, number=f.as_number(text)) for text in texts], 20))

    assert over(f.followed(f.percent(0.5), " [40.0, 60.0]"), f.followed(f.percent(0.7), " [60.0, 80.0]")) == (
        "60.0 \N{PLUS-MINUS SIGN} 14.1"
    )
    assert over(f.number(2.0), f.number(float("inf"))) == f.NONE  # a quotient by zero


def test_every_suite_has_its_mean_over_seeds(tmp_path: Path):
    api.evaluate(
        defense="baseline", seeds="0-1", arch="networks:perceptron", epochs=1, members=2, n=30, attacks="fgsm",
        suites="attacks,calibration,ood,diversity", trust="off", reference=False, speed="off", formats=(), out=tmp_path,
    )  # fmt: skip
    means = {
        table.name: table
        for table in tables(json.loads((tmp_path / "results.json").read_text("utf-8")))
        if table.title.endswith("over 2 seeds")
    }
    assert {"ood", "ood-measures", "calibration", "diversity", "diversity-pairs"} <= set(means)
    for name in ("ood", "calibration"):
        assert all("\N{PLUS-MINUS SIGN}" in cell.text for row in means[name].rows for cell in row[2:])
