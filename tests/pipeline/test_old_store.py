"""A store that robustkit 0.1.0 wrote before its modules moved is found, resumed and reported by the code as it is now.

``store_of_0_1_0`` was made by commit 13a3021 with

    robustkit train --defense adp --arch net.py:net --members 2 --epochs 8 --speed off --out ensemble
    robustkit evaluate --checkpoint ensemble --arch net.py:net --attacks mim --set mim.steps=2 --eps 0.02,0.05 --n 8
        --suites attacks,calibration --speed off --no-keep-examples --escalate --escalate-budget 800

What stood beside the attacks then, a PGD of 100 steps, is another attack today, and no attack of another family had
tried to lower a number: these cells and probes are run anew. Everything else is taken from the store.
"""

from __future__ import annotations

import json
import shlex
import shutil
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest
from in_process import invoke, parsed

from robustkit import api
from robustkit.base.errors import RunError

STORE = Path(__file__).parent / "store_of_0_1_0"
COMMAND = [
    "evaluate", "--checkpoint", "ensemble", "--arch", "net.py:net", "--attacks", "mim", "--set", "mim.steps=2",
    "--eps", "0.02,0.05", "--n", "8", "--suites", "attacks,calibration", "--speed", "off", "--no-keep-examples",
    "--escalate", "--escalate-budget", "800", "--out", "out", "--format", "csv",
]  # fmt: skip


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A copy of the store in the current directory."""
    return copied(STORE, tmp_path / "copy", monkeypatch)


@dataclass(frozen=True)
class Resumed:
    """What the command made of a copy of the store: the folder, what it printed, when what was there was written."""

    folder: Path
    printed: str
    before: dict[str, int]


@pytest.fixture(scope="module")
def resumed(tmp_path_factory: pytest.TempPathFactory) -> Resumed:
    """A copy in which the command has run; who changes it takes another copy."""
    with pytest.MonkeyPatch.context() as patch:
        place = copied(STORE, tmp_path_factory.mktemp("resumed") / "copy", patch)
        before = stamps(place)
        code, printed, error = invoke(*COMMAND)
        assert code == 0, error
    return Resumed(place, printed, before)


def copied(store: Path, place: Path, patch: pytest.MonkeyPatch) -> Path:
    """Copy a store, with the times of its files, into what becomes the current directory."""
    shutil.copytree(store, place)
    return entered(place, patch)


def entered(place: Path, patch: pytest.MonkeyPatch) -> Path:
    """Make a folder the current directory."""
    patch.chdir(place)
    # The store's network is code, which was in no key then: whoever has such a store has it run anew. Of all others:
    patch.setattr("robustkit.models.source_digest", lambda arch: "")
    return place


def results(folder: Path) -> dict[str, Any]:
    return json.loads((folder / "out" / "results.json").read_text("utf-8"))


def stamps(folder: Path) -> dict[str, int]:
    return {path.name: path.stat().st_mtime_ns for path in (folder / "out" / "runs").glob("*.npz")}


def numbers(found: dict[str, Any]) -> list[tuple[float, float, float, float]]:
    """What each run of mim measured, whatever is thought of it."""
    names = ("eps", "robust_accuracy", "mean_linf", "backwards")
    return [tuple(e[name] for name in names) for e in found["evaluations"] if e["attack"] == "mim"]


def rounded(value: Any) -> Any:
    """Return results with numbers of nine digits: the fit of a temperature is SciPy's, whose last digits differ."""
    if isinstance(value, dict):
        return {name: rounded(one) for name, one in value.items()}
    if isinstance(value, list):
        return [rounded(one) for one in value]
    return float(f"{value:.9g}") if isinstance(value, float) else value


def added(folder: Path, before: dict[str, int]) -> list[str]:
    """Names of the attacks and probes in the store that were not there before."""
    new = [folder / "out" / "runs" / f"{Path(name).stem}.json" for name in stamps(folder).keys() - before.keys()]
    return sorted(json.loads(path.read_text("utf-8"))["cell"]["attack"]["name"] for path in new)


def test_the_same_command_runs_only_what_is_new(resumed: Resumed):
    folder, before = resumed.folder, resumed.before
    assert len(before) > 10
    assert "cells were in the store already" in resumed.printed
    assert stamps(folder).items() >= before.items()
    new = added(folder, before)
    assert new.count("quorum") >= 2  # the reference at both budgets, and what followed
    assert new.count("outsider") == 2
    assert "mim" not in new
    now, then = results(folder), results(STORE)
    assert numbers(now) == numbers(then) != []
    assert rounded(now["calibration"]) == rounded(then["calibration"])
    assert [e["accuracy"] for e in now["ensembles"]] == [e["accuracy"] for e in then["ensembles"]]
    for worst in now["worst_case"]:
        assert worst["robust_accuracy"] <= min(accuracy for eps, accuracy, *_ in numbers(then) if eps == worst["eps"])


def test_asked_a_second_time_nothing_runs(resumed: Resumed, monkeypatch: pytest.MonkeyPatch):
    folder = entered(resumed.folder, monkeypatch)
    before, now = stamps(folder), results(folder)
    code, _, error = invoke(*COMMAND)
    assert code == 0, error
    assert stamps(folder) == before
    assert results(folder) == now


def test_what_is_advised_where_nobody_looked_is_a_whole_command_that_looks(folder: Path):
    plain = COMMAND[: COMMAND.index("--escalate")] + COMMAND[COMMAND.index("--out") :]
    code, _, error = invoke(*plain, "--trust", "off")
    assert code == 0, error
    found = results(folder)
    own = parsed(shlex.join(["robustkit", *plain]))
    for numbers, escalate in ((found["worst_case"], True), (found["evaluations"], False)):
        for number in numbers:
            assert number["verdict"] in ("unchecked", "suspect", "invalid")
            (advice,) = [c["advice"] for c in number["checks"] if c["name"] == "tried-by-others"]
            config = parsed(advice[advice.index("robustkit evaluate") :])
            assert (config.escalate, config.trust) == (escalate, "quick")
            if escalate:  # the same attacks as well
                assert replace(config, escalate=False) == own
            else:
                assert config.attacks in ("mora", "quorum")
                assert replace(config, attacks=None, settings=None) == replace(own, attacks=None, settings=None)


def test_what_is_missing_is_run_and_the_rest_is_kept(resumed: Resumed, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    runs = copied(resumed.folder, tmp_path / "copy", monkeypatch) / "out" / "runs"
    gone = next(
        path for path in sorted(runs.glob("*.json")) if '"mim"' in path.read_text() and "0.02" in path.read_text()
    )
    gone.unlink()
    kept = {path: path.stat().st_mtime_ns for path in runs.glob("*.json") if path.name != "study.json"}
    code, _, error = invoke(*COMMAND)
    assert code == 0, error
    assert gone.is_file()
    assert {path: path.stat().st_mtime_ns for path in kept} == kept


def test_it_is_reported_without_the_model_once_what_is_new_has_run(folder: Path, resumed: Resumed):
    with pytest.raises(RunError, match=r"lacks a cell \(attack\); run the same `robustkit evaluate` again"):
        api.report("out", formats=())
    shutil.copytree(resumed.folder / "out", folder / "out", dirs_exist_ok=True)
    shutil.rmtree(folder / "ensemble")
    found = results(folder)
    assert api.report("out", formats=()) == found
