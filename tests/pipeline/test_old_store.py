"""A store that robustkit 0.1.0 wrote before its modules moved is found, resumed and reported by the code as it is now.

``store_of_0_1_0`` was made by commit 13a3021 with

    robustkit train --defense adp --arch net.py:net --members 2 --epochs 8 --speed off --out ensemble
    robustkit evaluate --checkpoint ensemble --arch net.py:net --attacks mim --set mim.steps=2 --eps 0.02,0.05 --n 8
        --suites attacks,calibration --speed off --no-keep-examples --escalate --escalate-budget 800

Of the probe ``forward``, which is younger, the second command has added the facts, and its check to results.json.
"""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
from in_process import invoke

from robustkit import api

STORE = Path(__file__).parent / "store_of_0_1_0"
COMMAND = [
    "evaluate", "--checkpoint", "ensemble", "--arch", "net.py:net", "--attacks", "mim", "--set", "mim.steps=2",
    "--eps", "0.02,0.05", "--n", "8", "--suites", "attacks,calibration", "--speed", "off", "--no-keep-examples",
    "--escalate", "--escalate-budget", "800", "--out", "out", "--format", "csv",
]  # fmt: skip


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A copy of the store in the current directory."""
    shutil.copytree(STORE, tmp_path / "copy")
    monkeypatch.chdir(tmp_path / "copy")
    return tmp_path / "copy"


def results(folder: Path) -> dict[str, Any]:
    return json.loads((folder / "out" / "results.json").read_text("utf-8"))


def test_the_same_command_runs_nothing_and_says_the_same(folder: Path):
    stamps = {path: path.stat().st_mtime_ns for path in (folder / "out" / "runs").glob("*.npz")}
    assert len(stamps) > 10
    code, printed, error = invoke(*COMMAND)
    assert code == 0, error
    assert "cells were in the store already" in printed
    assert {path: path.stat().st_mtime_ns for path in (folder / "out" / "runs").glob("*.npz")} == stamps
    assert results(folder) == results(STORE)


def test_what_is_missing_is_run_and_the_rest_is_kept(folder: Path):
    runs = folder / "out" / "runs"
    gone = next(
        path for path in sorted(runs.glob("*.json")) if '"mim"' in path.read_text() and "0.02" in path.read_text()
    )
    gone.unlink()
    stamps = {path: path.stat().st_mtime_ns for path in runs.glob("*.json") if path.name != "study.json"}
    code, _, error = invoke(*COMMAND)
    assert code == 0, error
    assert gone.is_file()
    assert {path: path.stat().st_mtime_ns for path in stamps} == stamps


def test_it_is_reported_without_the_model(folder: Path):
    shutil.rmtree(folder / "ensemble")
    assert api.report("out", formats=()) == results(STORE)
