"""Results say how they came about; a study that is resumed keeps its start, one that is answered from the store all."""

from __future__ import annotations

import csv
import hashlib
import json
import shlex
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest
from in_process import invoke, parsed

import robustkit
from robustkit import api
from robustkit.pipeline import provenance
from robustkit.records.store import Store
from robustkit.training.spec import TrainSpec

NET = f"{Path(__file__).parents[1] / 'networks.py'}:perceptron"
ASKED: dict[str, Any] = {
    "defense": "adp", "arch": NET, "members": 2, "epochs": 2, "n": 20, "attacks": "pgd", "eps": [0.1, 0.2],
    "settings": {"pgd.steps": 3}, "suites": "attacks", "speed": "off", "formats": (),
}  # fmt: skip


@pytest.fixture(scope="module")
def out(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("provenance") / "out"
    robustkit.evaluate(**ASKED, out=folder)
    return folder


def read(folder: Path) -> dict[str, Any]:
    return json.loads((folder / "results.json").read_text("utf-8"))


def test_the_command_and_every_option_are_there(out: Path):
    run = read(out)["run"]
    config = parsed(run["command"])
    assert (config.defense, config.epochs, config.n, list(config.settings)) == ("adp", 2, 20, ["pgd.steps=3"])
    assert run["configuration"]["members"] == 2
    assert run["configuration"]["trust"] == "quick"  # a default
    assert run["configuration"]["out"] == str(out)
    assert "reporter" not in run["configuration"]
    assert {"robustkit", "python", "torch", "numpy", "scipy"} <= set(run["versions"])
    started, finished = map(datetime.fromisoformat, (run["started"], run["finished"]))
    assert started <= finished
    assert started.utcoffset() is not None


def test_every_ensemble_has_its_recipe_fusion_rule_and_file(out: Path):
    for e in read(out)["ensembles"]:
        recipe = e["training"]["recipe"]
        assert set(recipe) == set(TrainSpec.__dataclass_fields__)
        assert (recipe["defense"]["name"], recipe["epochs"], recipe["optimiser"]) == (e["defense"], 2, "adam")
        assert {"best_epoch", "seconds", "validation_accuracy"} <= set(e["training"]["metrics"])
        assert e["fusion"] == "mean-prob"
        file = Path(e["checkpoint"]["path"])
        assert hashlib.sha256(file.read_bytes()).hexdigest() == e["checkpoint"]["sha256"]


def test_samples_agree_with_the_numbers_and_are_the_same_when_rendered_again(out: Path, tmp_path: Path):
    results = read(out)
    content = (out / "samples.csv").read_bytes()
    assert results["samples"]["sha256"] == hashlib.sha256(content).hexdigest()
    rows = list(csv.DictReader(content.decode().splitlines()))
    assert len(rows) == results["samples"]["rows"] == 2 * 20
    for ensemble in ("baseline", "adp"):
        own = [row for row in rows if row["ensemble"] == ensemble]
        numbers = [e for e in results["evaluations"] if e["ensemble"] == ensemble]
        columns = [name for name in rows[0] if name.startswith("broken ") and own[0][name] != ""]
        assert len(columns) == len(numbers) == 4
        for name, e in zip(columns, numbers, strict=True):
            assert 1 - sum(float(row[name]) for row in own) / 20 == pytest.approx(e["robust_accuracy"], abs=1e-12)
        for w in results["worst_case"]:
            if w["ensemble"] == ensemble:
                standing = [
                    row for row in own if not row["smallest_eps_linf"] or float(row["smallest_eps_linf"]) > w["eps"]
                ]
                assert len(standing) / 20 == pytest.approx(w["robust_accuracy"], abs=1e-12)
    api.report(out, formats=(), out=tmp_path)
    assert (tmp_path / "samples.csv").read_bytes() == content
    assert (tmp_path / "results.json").read_bytes() == (out / "results.json").read_bytes()


def test_answered_from_the_store_the_record_stays_and_resumed_the_start_does(
    out: Path, monkeypatch: pytest.MonkeyPatch
):
    before = read(out)
    monkeypatch.setattr(provenance, "_now", lambda: "2100-01-01T00:00:00+00:00")
    robustkit.evaluate(**ASKED, out=out, workers=1)
    assert read(out) == before
    next(iter(sorted((out / "runs").glob("*.npz")))).unlink()  # a cell is lost: what runs again moves the end
    robustkit.evaluate(**ASKED, out=out)
    after = read(out)
    assert after["run"]["started"] == before["run"]["started"]
    assert after["run"]["finished"] == "2100-01-01T00:00:00+00:00"
    assert after["worst_case"] == before["worst_case"]
    robustkit.evaluate(**{**ASKED, "eps": [0.1]}, out=out)  # another study begins when it begins
    assert read(out)["run"]["started"] == "2100-01-01T00:00:00+00:00"


def test_a_killed_run_leaves_its_start_and_no_end(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    save = Store.save

    def once(self: Store, run: Any) -> None:
        if run.cell.kind != "clean":
            raise KeyboardInterrupt
        save(self, run)

    with monkeypatch.context() as patch:
        patch.setattr(Store, "save", once)
        patch.setattr(provenance, "_now", lambda: "2001-01-01T00:00:00+00:00")
        with pytest.raises(KeyboardInterrupt):
            robustkit.evaluate(**ASKED, out=tmp_path)
    stored = json.loads((tmp_path / "runs" / "study.json").read_text("utf-8"))
    assert (stored["run"]["started"], stored["run"]["finished"]) == ("2001-01-01T00:00:00+00:00", None)
    robustkit.evaluate(**ASKED, out=tmp_path)
    run = read(tmp_path)["run"]
    assert run["started"] == "2001-01-01T00:00:00+00:00"
    assert run["finished"] > "2020"


def test_the_page_names_recipe_command_and_file(out: Path, tmp_path: Path):
    code, _, error = invoke("report", out, "--format", "html", "--out", tmp_path)
    assert code == 0, error
    page = (tmp_path / "report.html").read_text("utf-8")
    run = read(tmp_path)["run"]
    assert shlex.split(run["command"])[:2] == ["robustkit", "evaluate"]
    assert all(text in page for text in (run["started"], "training of adp", "optimiser=adam", "checkpoint of baseline"))
