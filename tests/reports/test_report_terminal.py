"""In a terminal every number is whole, at any width, with and without colour."""

from __future__ import annotations

import io

import pytest
from rich.console import Console

from robustkit.records.schema import Results
from robustkit.reports._tables import find, tables
from robustkit.reports.terminal import show


def printed(results: Results, width: int, colour: bool = False) -> str:
    stream = io.StringIO()
    system = "truecolor" if colour else None
    show(results, Console(file=stream, width=width, force_terminal=colour, color_system=system))  # type: ignore[arg-type]
    return stream.getvalue()


@pytest.mark.parametrize("width", [50, 80, 140])
def test_numbers_are_unbroken(results: Results, width: int) -> None:
    text = printed(results, width)
    assert max(map(len, text.splitlines())) <= width
    for name in ("robustness", "worst-case", "escalation"):
        table = find(tables(results), name)
        assert table is not None
        assert all(str(cell) in text for row in table.rows for cell in row if name != "escalation" or cell.verdict)
    for t in results["transfer"]:
        for row in t["matrix"]:
            assert all(f" {100 * value:.1f} " in text for value in row)
    assert "99.2 [98.0, 99.7]" in text
    assert all(word in text for word in ("iterations-suffice", "finite-gradients", "Find the NaN first."))


def test_both_ensembles_beside_each_other_at_80(results: Results) -> None:
    line = next(line for line in printed(results, 80).splitlines() if line.startswith("8/255  pgd-100"))
    assert line.split()[2:] == ["5.2", "[1.2,", "9.2]", "+", "11.6", "[7.6,", "15.6]", "+", "+6.4"]


def test_wide_matrices_continue_below(results: Results) -> None:
    names = [f"member {at}" for at in range(19)] + ["ensemble"]
    matrix = [[round((row * 20 + col) / 400, 4) for col in range(20)] for row in range(20)]
    results["transfer"] = [{**results["transfer"][0], "sources": names, "targets": names, "matrix": matrix}]
    text = printed(results, 80)
    assert all(f" {100 * value:.1f} " in text for row in matrix for value in row)
    assert max(map(len, text.splitlines())) <= 80


def test_long_names_wrap_rather_than_vanish(results: Results) -> None:
    name = "an-ensemble-with-a-very-long-name-that-someone-typed-in-one-go"
    results["ensembles"][0]["id"] = name
    for e in results["evaluations"]:
        e["ensemble"] = name if e["ensemble"] == "adp" else e["ensemble"]
    text = printed(results, 60)
    assert "44.8 [40.8, 48.8] ?" in text
    assert name[:20] in text


def test_colour(results: Results) -> None:
    plain, coloured = printed(results, 80), printed(results, 80, colour=True)
    assert "\x1b[" not in plain
    assert "48;2;" in coloured  # a background in 24 bit


def test_empty(empty: Results) -> None:
    assert printed(empty, 80) == ""


def test_markup_in_names_is_text(results: Results) -> None:
    results["ensembles"][0]["arch"] = "[red]x[/red]"
    assert "[red]x[/red]" in printed(results, 80)
