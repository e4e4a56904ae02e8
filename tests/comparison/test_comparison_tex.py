"""LaTeX of compare and of leaderboard: sound, and it compiles, whatever models and folders are called."""

from __future__ import annotations

import re
from pathlib import Path

import latex_reader as reader
import pytest
from in_process import invoke
from latex_engine import ENGINES, compiled
from stored import evaluation, some

# What LaTeX reads as commands, and what no font of pdflatex has.
HOSTILE = ("100%_a&b", "$x^2${}", r"\\input{~/#1}", "\u00e9\u6f22\u03a9", "\U0001f408 -- <a>", "a_very_long_name_" * 6)


@pytest.fixture
def folders(tmp_path: Path) -> list[Path]:
    """Three evaluations of six models, of one under five budgets, below folders with names of the same kind."""
    found = []
    for at, name in enumerate(("plain & simple", "50% #1 _x_ {y}", "\u6f22\u5b57 ~^ \U0001f408 $")):
        eps = (0.1, 0.2, 0.3, 0.4, 0.5)[: 5 - at]
        right = {
            model: {None: some(200, 190 - 3 * at), **{e: some(200, int(150 - 200 * e + 30 * place)) for e in eps}}
            for place, model in enumerate(HOSTILE[2 * at : 2 * at + 2])
        }
        folder = evaluation(
            tmp_path / name, right, attacks=("pgd", "mim", "fgsm"), verdict=("suspect", "trusted", "invalid")[at],
            command=f"robustkit evaluate --dataset 'npz:{name}/d_{at}.npz'",
        )  # fmt: skip
        found.append(folder)
    return found


def written(tmp_path: Path, folders: list[Path], *more: str) -> tuple[Path, Path]:
    """Return where compare and leaderboard, both asked for LaTeX, wrote."""
    out = tmp_path / "tex"
    assert invoke("compare", *folders, "--out", out, "--format", "tex", *more)[0] == 0
    assert invoke("leaderboard", tmp_path, "--out", out / "board.tex", *more)[0] == 0
    return out / "tables" / "tables.tex", out / "board.tex"


def test_comparisons_of_whatever_name_are_sound(folders: list[Path], tmp_path: Path) -> None:
    tables, board = written(tmp_path, folders)
    for path in (tables, board):
        text = path.read_text("utf-8")
        assert reader.problems(text) == [], path
        assert set(re.findall(r"\\begin\{table\*?\}(\[\w+\])", text)) <= {"[t]", "[tp]"}
    assert r"\begin{table*}[t]" in tables.read_text("utf-8")
    found = reader.tables(tables.read_text("utf-8"))
    assert {"models", "comparisons", "comparisons-attacks"} <= found.keys()
    assert len({row[0] for part in found["models"] for row in part[1:]}) == len(HOSTILE)
    ranked = reader.tables(board.read_text("utf-8"))["leaderboard"]
    assert {row[0] for part in ranked for row in part[1:]} == set("123456")


def test_marks_of_comparisons_are_explained_or_left_out(folders: list[Path], tmp_path: Path) -> None:
    for path in written(tmp_path, folders):
        text = path.read_text("utf-8")
        assert re.search(r"\\rlap\{\$\^\{\\ddagger\}\$\}", text)
        assert r"$\ddagger$ suspect" in text
        assert r"$\S$ invalid" in text
    for path in written(tmp_path, folders, "--no-marks"):
        assert not re.search(r"ddagger|\\S\b", path.read_text("utf-8"))


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize("options", ["", "twocolumn"])
def test_comparisons_compile(folders: list[Path], tmp_path: Path, engine: str, options: str) -> None:
    written(tmp_path, folders)
    over = compiled(engine, tmp_path / "tex", ["tables/tables", "board"], options)
    assert over == []
