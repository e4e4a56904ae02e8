"""The plan before the start: what it counts, what it leaves alone, and how near its time is to the truth."""

from __future__ import annotations

import json
import time
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from in_process import invoke
from rich.console import Console

from robustkit import api
from robustkit.base.errors import UserError
from robustkit.base.progress import Reporter
from robustkit.cli import COMMANDS
from robustkit.commands import planning, studies
from robustkit.evaluation.cell import RunOptions
from robustkit.pipeline import costs, estimate, trial
from robustkit.pipeline.plan_of import Plan, Planned, duration, together
from robustkit.records.cells import Spec
from robustkit.records.store import STUDY
from robustkit.study.config import EvaluateConfig
from robustkit.training.spec import TrainSpec

SMALL = {
    "arch": "networks:perceptron", "epochs": 1, "members": 2, "n": 30, "speed": "off", "workers": 1, "trust": "off",
}  # fmt: skip
WORDS = [f"--{name.replace('_', '-')}={value}" for name, value in SMALL.items()]


def stopped(plan: Plan) -> None:
    raise Planned(plan)


def planned(function, **keywords) -> Plan:
    with pytest.raises(Planned) as found:
        function(**keywords, reporter=Reporter(planned=stopped))
    return found.value.plan


@pytest.fixture
def own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("ROBUSTKIT_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


def test_dry_run_writes_nothing_and_counts_what_then_runs(tmp_path: Path, own_cache: Path):
    out = tmp_path / "out"
    code, said, err = invoke("evaluate", "--defense", "gncl", "--attacks", "fgsm", *WORDS, "--out", out, "--dry-run")
    assert (code, err) == (0, "")
    assert not out.exists()
    assert not (own_cache / "ensembles").exists()
    keywords = {"defense": "gncl", "attacks": "fgsm", "out": out, **SMALL}
    before = planned(api.evaluate, **keywords)
    assert f"{before.cells} cells, 2 to train: about" in said
    assert (before.trainings, before.cached, before.stored) == (2, 0, 0)
    api.evaluate(**keywords, formats=())
    after = planned(api.evaluate, **keywords)
    assert (after.cells, after.stored, after.cached) == (before.cells, before.cells, 2)
    assert len(list((out / "runs").glob("*.npz"))) == before.cells


def test_passes_of_known_models_are_those_that_the_run_takes(tmp_path: Path, own_cache: Path):
    asked = {"defense": "baseline", "attacks": "pgd", "eps": 0.02, "suites": "attacks", "n": 24, "epochs": 5}
    keywords = {**SMALL, **asked}
    api.evaluate(**keywords, out=tmp_path / "a", formats=())
    plan = planned(api.evaluate, **keywords, out=tmp_path / "b")
    runs = [run for run in api.load_runs(tmp_path / "a") if run.cell.kind == "attack"]
    assert plan.backwards == pytest.approx(sum(run.samples.backwards.sum() for run in runs), rel=0.01)
    assert plan.forwards == pytest.approx(sum(run.samples.forwards.sum() for run in runs), rel=0.01)


def test_an_escalation_of_one_model_foresees_its_last_resort(tmp_path: Path, own_cache: Path):
    keywords = {
        **SMALL, "defense": "baseline", "members": 1, "attacks": "pgd", "suites": "attacks", "trust": "quick",
        "epochs": 5, "n": 24, "escalate": True,
    }  # fmt: skip
    api.evaluate(**keywords, eps=0.02, out=tmp_path / "a", formats=())
    work = {"recombine": 0.0, "asked": 0.0}
    for run in api.load_runs(tmp_path / "a"):
        name = "recombine" if run.cell.name == "recombine" else "asked" if run.cell.seed == 0 else ""
        if run.cell.kind == "attack" and name:  # what follows begins elsewhere, from seed 1
            work[name] += float(run.samples.backwards.sum())
    plan = planned(api.evaluate, **keywords, eps=0.02, out=tmp_path / "b").seconds
    last = plan["escalation"] - estimate.ESCALATION * plan["attacks"]
    assert work["recombine"] / 3 < last / plan["attacks"] * work["asked"] < 3 * work["recombine"]
    # Where nothing stands nothing is left to search, and members are searched only where more may be spent.
    gone = planned(api.evaluate, **keywords, eps=1.0, out=tmp_path / "b").seconds
    assert gone["escalation"] == pytest.approx(estimate.ESCALATION * gone["attacks"])
    two = {**keywords, "members": 2, "eps": 0.02, "out": tmp_path / "b"}
    usual, more = (planned(api.evaluate, **two, escalate_budget=budget).seconds for budget in (20_000.0, 20_001.0))
    assert usual["escalation"] == pytest.approx(estimate.ESCALATION * usual["attacks"])
    assert more["escalation"] > 2 * estimate.ESCALATION * more["attacks"]


def test_train_is_planned_and_its_time_is_near_the_truth(
    tmp_path: Path, own_cache: Path, monkeypatch: pytest.MonkeyPatch
):
    # Of the processor, which what else runs on the machine changes little.
    monkeypatch.setattr(trial, "time", SimpleNamespace(perf_counter=time.thread_time))
    keywords = {"defense": "baseline", "arch": "lenet", "epochs": 4, "members": 2, "speed": "off"}
    plan = planned(api.train, **keywords, out=tmp_path / "out")
    assert not (tmp_path / "out").exists()
    started = time.process_time()
    api.train(**keywords, out=tmp_path / "out")
    took = time.process_time() - started
    assert took / 3 < plan.total < 3 * took
    assert planned(api.train, **keywords, out=tmp_path / "out").cached == 1
    assert planned(api.train, **{**keywords, "seeds": "0-2"}, out=tmp_path / "out").trainings == 3


def test_trainings_share_the_workers(monkeypatch: pytest.MonkeyPatch, digits):
    monkeypatch.setattr(trial, "steps", lambda jobs, data, options: [0.01 * (1 + at) for at, _ in enumerate(jobs)])
    fast = TrainSpec(Spec("defense", "baseline", {}), "digits", "x", "lenet", epochs=2, batch_size=64)
    slow = replace(fast, arch="resnet20")
    steps = -(-len(digits.split("train")) // 64)
    jobs = [(replace(spec, seed=seed), None) for spec in (fast, slow) for seed in (0, 1)]
    took = estimate.training_seconds(jobs, digits, RunOptions(torch.device("cpu"), workers=2))
    assert took == pytest.approx(
        2 * estimate.FIXED + estimate.EPOCH * 2 * steps * (0.01 + 0.02)
    )  # each worker trains one of each


def test_what_stages_cost_is_remembered(own_cache: Path):
    key = costs.key("attacks", data="digits")
    costs.note({key: 2.0})
    costs.note({key: 4.0})
    assert costs.known()[key] == 3.0
    assert costs.key("attacks", data="digits") == key != costs.key("attacks", data="mnist")
    costs.path().write_text("{broken", "utf-8")
    assert costs.known() == {}


def test_a_whole_run_notes_its_stages(tmp_path: Path, own_cache: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(estimate, "SHORT", 0.0)
    keywords = {**SMALL, "defense": "baseline", "attacks": "fgsm", "suites": "attacks", "trust": "quick"}
    api.evaluate(**keywords, out=tmp_path / "a", formats=(), reporter=Reporter(Console(quiet=True)))
    assert {key.rpartition("-")[0] for key in costs.known()} >= {"attacks", "probes"}


def test_very_many_cells_ask_for_yes_and_say_the_time(tmp_path: Path, own_cache: Path):
    path = tmp_path / "study.toml"
    eps = ", ".join(str(at / 4000) for at in range(1, 1001))
    text = f'defense = "baseline"\nseeds = "0-4"\nattacks = ["pgd"]\neps = [{eps}]\nsuites = "attacks"\n'
    path.write_text(text, "utf-8")
    code, _, err = invoke("run", path, *WORDS, "--out", tmp_path / "out")
    assert code == 2
    assert "this study has 10005 cells and takes about" in err
    assert "add --yes" in err
    assert not (tmp_path / "out").exists()


def test_cells_are_counted_without_reading_anything():
    config = EvaluateConfig(defense="adp,gncl", seeds="0-1", attacks="pgd,fgsm", eps=[0.1, 0.2], members=4)
    # three defences with the baseline, two seeds: clean, two attacks and the reference at two eps, 2 x 2 x 5 transfers
    assert planning.cells_of(config) == 3 * 2 * (1 + 2 * 2 + 2 + 2 * 5 * 2)
    assert studies.MANY == 10_000


def test_words_for_times():
    assert [duration(s) for s in (0.2, 40, 100, 7000, 3600 * 50, 86400 * 9)] == [
        "1 s", "40 s", "2 min", "1.9 h", "50.0 h", "9 days",
    ]  # fmt: skip
    both = together([Plan("a", 3, 1, 2, 1, 5.0, 4.0, {"x": 1.0}), Plan("b", 1, seconds={"x": 2.0, "y": 1.0})])
    assert (both.cells, both.trainings, both.total) == (4, 2, 4.0)


def test_a_grid_runs_every_combination_in_a_folder_of_its_own(tmp_path: Path, own_cache: Path):
    path = tmp_path / "study.toml"
    text = 'defense = "baseline"\nattacks = "fgsm"\nfusion = ["mean-prob", "median"]\nsuites = "attacks"\nformat = []\n'
    path.write_text(text, "utf-8")
    words = [word for word in WORDS if not word.startswith("--members")]
    code, said, err = invoke("run", path, *words, "--members", 1, "--out", tmp_path / "out")
    assert code == 0, err
    folders = sorted(folder.name for folder in (tmp_path / "out").iterdir())
    assert folders == ["digits-mean-prob", "digits-median"]
    assert all((tmp_path / "out" / name / "runs" / STUDY).is_file() for name in folders)
    studied = [json.loads((tmp_path / "out" / name / "runs" / STUDY).read_text("utf-8")) for name in folders]
    fusions = {one["ensembles"][0]["fusion"] for one in studied}
    assert fusions == {"mean-prob", "median"}
    assert "1 of 2" in said


def test_flags_go_before_the_file(tmp_path: Path):
    (tmp_path / "study.toml").write_text('command = "audit"\nmodels = "x.th"\ndataset = "digits"\nn = 5\n', "utf-8")
    runs = studies.configurations("audit", COMMANDS["audit"][0], {"n": 7}, tmp_path / "study.toml")
    assert [(one.n, one.dataset, one.models) for one in runs] == [(7, "digits", "x.th")]
    with pytest.raises(UserError, match="give it to that, or to `robustkit run`"):
        studies.configurations("evaluate", EvaluateConfig, {}, tmp_path / "study.toml")


def test_a_thousand_seeds_are_not_all_tried_to_say_the_time(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    seen: list[Any] = []

    def planned(name: str, config: Any) -> Plan:
        seen.append(config)
        return Plan(name, seconds={"x": 3600.0})

    monkeypatch.setattr(planning, "_plan_of", planned)
    with pytest.raises(UserError, match=r"takes about 500\.0 h|takes about 21 days"):
        planning.confirm("evaluate", [EvaluateConfig(seeds="0-999")], 10)
    assert [config.seeds for config in seen] == [(0, 1)]
    path = tmp_path / "study.toml"
    path.write_text('seeds = "0-999"\n', "utf-8")
    assert invoke("run", path, "--dry-run")[0] == 0  # which begins nothing, so that nothing is to be confirmed
