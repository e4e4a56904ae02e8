"""Figures that lie there are drawn again as soon as anything that they depend on is another."""

from __future__ import annotations

import copy
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import matplotlib
import pytest

from robustkit.base import source
from robustkit.records.schema import Results
from robustkit.reports import _drawn, _figures, figures, write


@pytest.fixture
def drawn(results: Results, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[Results], bool]:
    """Return a function that writes the figures of results and says whether any was drawn."""
    curves, calls = _figures.curves, []
    monkeypatch.setattr(_figures, "curves", lambda given: calls.append(1) or curves(given))
    monkeypatch.setattr(_figures, "heatmaps", lambda given: [])  # one figure is enough, and takes a fifth of the time
    results["minimum_norm"] = []

    def ask(given: Results) -> bool:
        calls.clear()
        there = write(given, tmp_path, ["figures"])
        assert there
        assert all(path.stat().st_size > 1000 for path in there)
        return bool(calls)

    assert ask(results)
    return ask


def test_the_same_results_are_drawn_once(results: Results, drawn: Callable[[Results], bool], tmp_path: Path) -> None:
    before = {path: path.stat().st_mtime_ns for path in (tmp_path / "figures").iterdir()}
    again = copy.deepcopy(results)
    again["run"] = {"command": "robustkit evaluate"}  # type: ignore[typeddict-item]
    assert not drawn(again)
    assert {path: path.stat().st_mtime_ns for path in (tmp_path / "figures").iterdir()} == before
    assert {path.name for path in before} == {path.name for path in write(again, tmp_path, ["figures"])} | {_drawn.NOTE}


def test_other_numbers_are_drawn(results: Results, drawn: Callable[[Results], bool]) -> None:
    results["evaluations"][0]["robust_accuracy"] += 0.001
    assert drawn(results)
    assert not drawn(results)


@pytest.mark.parametrize("change", ["edited", "gone", "no note", "bad note"])
def test_files_that_changed_are_drawn(
    results: Results, drawn: Callable[[Results], bool], tmp_path: Path, change: str
) -> None:
    path = tmp_path / "figures" / "robust-accuracy.png"
    whole = path.read_bytes()
    if change == "edited":
        path.write_bytes(whole + b"1")
    elif change == "gone":
        path.unlink()
    elif change == "no note":
        (tmp_path / "figures" / _drawn.NOTE).unlink()
    else:
        (tmp_path / "figures" / _drawn.NOTE).write_text('{"of": []}')
    assert drawn(results)
    assert path.read_bytes() == whole


def test_other_source_libraries_and_settings_draw(
    results: Results, drawn: Callable[[Results], bool], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(source, "digest", lambda: "another")
    assert drawn(results)
    monkeypatch.setattr(_drawn, "installed", lambda: ["matplotlib-99.dist-info"])
    assert drawn(results)
    with matplotlib.rc_context({"font.size": 20}):
        assert drawn(results)
    assert drawn(results)


def test_a_kill_amid_the_figures_leaves_no_note(
    results: Results, drawn: Callable[[Results], bool], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def killed(_: object, __: object) -> None:
        raise KeyboardInterrupt

    other = copy.deepcopy(results)
    other["evaluations"][0]["robust_accuracy"] += 0.001
    with monkeypatch.context() as patch:
        patch.setattr(figures, "write_bytes", killed)
        with pytest.raises(KeyboardInterrupt):
            write(other, tmp_path, ["figures"])
    assert not (tmp_path / "figures" / _drawn.NOTE).exists()
    assert drawn(results)


@pytest.mark.parametrize("name", ["MATPLOTLIBRC", "MPLCONFIGDIR"])
def test_a_file_of_settings_is_looked_at_before_it_is_loaded(tmp_path: Path, name: str) -> None:
    code = "import sys; from robustkit.reports._drawn import _settings; print('matplotlib' in sys.modules, _settings())"

    def ask() -> str:
        done = subprocess.run(
            [sys.executable, "-c", code], env={**os.environ, name: str(tmp_path)}, cwd=tmp_path.parent,
            capture_output=True, text=True, check=True,
        )  # fmt: skip
        return done.stdout

    before = ask()
    assert before.startswith("False")
    (tmp_path / "matplotlibrc").write_text("font.size: 20\n")
    assert ask() != before
