"""Four verdicts, each with a mark of its own, and none of them taken for a better one."""

from __future__ import annotations

import io
from pathlib import Path
from typing import get_args

import pytest
from rich.console import Console

from robustkit.records.schema import Check, Results, Verdict
from robustkit.reports import _curves, html, terminal
from robustkit.reports._checks import Failure, by_check, failing, worst_of
from robustkit.reports._format import LEGEND, MARKS
from robustkit.reports._page import layout
from robustkit.reports._tables import find, tables

VERDICTS: tuple[Verdict, ...] = get_args(Verdict)
UNTRIED: Check = {
    "name": "tried-by-others", "passed": False, "value": 1.0, "threshold": 0.0,
    "advice": "no attack of another kind has tried to lower this number: run robustkit evaluate --escalate",
}  # fmt: skip


@pytest.fixture
def untried(results: Results) -> Results:
    """What comes of --trust off: nobody has looked."""
    results["transfer"], results["escalation"] = [], []
    for e in (*results["evaluations"], *results["worst_case"]):
        e |= {"verdict": "unchecked", "checks": [UNTRIED]}
    return results


def printed(results: Results, colour: bool = False) -> str:
    stream = io.StringIO()
    system = "truecolor" if colour else None
    terminal.show(results, Console(file=stream, width=100, force_terminal=colour, color_system=system))  # type: ignore[arg-type]
    return stream.getvalue()


def test_each_verdict_has_marks_of_its_own():
    assert VERDICTS == ("trusted", "unchecked", "suspect", "invalid")
    for marks in (MARKS, layout.MARKS, terminal._VERDICT, _curves._FILL):
        assert tuple(marks) == VERDICTS
        assert len(set(marks.values())) == len(VERDICTS)
    assert ", ".join(f"{MARKS[verdict]} {verdict}" for verdict in VERDICTS) == LEGEND
    assert "|" not in MARKS.values()  # would end a cell of Markdown


def test_the_worst_of_some_verdicts():
    def some(*verdicts: Verdict) -> list[Failure]:
        return [Failure("adp", "8/255", "pgd", verdict, "completed", 1.0, 0.0, "") for verdict in verdicts]

    assert worst_of(some("unchecked", "unchecked")) == "unchecked"
    assert worst_of(some("unchecked", "suspect")) == worst_of(some("suspect", "unchecked")) == "suspect"
    assert worst_of(some("unchecked", "invalid", "suspect")) == "invalid"


def test_numbers_that_nobody_checked_are_listed_with_what_to_run(untried: Results):
    found = failing(untried)
    assert len(found) == len(untried["evaluations"]) + len(untried["worst_case"])
    ((name, advice, failures),) = by_check(untried)
    assert (name, advice, worst_of(failures)) == ("tried-by-others", UNTRIED["advice"], "unchecked")


def test_the_page_does_not_say_that_checks_passed_which_nobody_made(untried: Results, tmp_path: Path):
    (path,) = [p for p in html.html(untried, tmp_path) if p.suffix == ".html"]
    text = path.read_text("utf-8")
    assert "Every check of every number passed" not in text
    assert "numbers are trusted" not in text
    assert "12 of 12 numbers are" in text
    assert '<section class="check unchecked">' in text
    assert UNTRIED["advice"] in text
    assert 'class="mark unchecked"' in text
    assert ".unchecked {" in text  # a colour of its own
    assert text.count('class="mark trusted"') == text.count('class="mark trusted" aria-hidden')  # what the marks mean


def test_nor_does_the_terminal(untried: Results):
    text = printed(untried)
    assert "Every check of every number passed" not in text
    assert "~ tried-by-others no attack of another kind" in text
    assert "] ~" in text
    assert "] +" not in text
    assert "\x1b[36m~" in printed(untried, colour=True).replace("\x1b[1;36m", "\x1b[36m")


def test_a_difference_is_as_good_as_the_worse_of_its_two_numbers(results: Results):
    marks = {}
    for own, base in ((a, b) for a in VERDICTS for b in VERDICTS):
        for e in results["evaluations"]:
            e["verdict"] = base if e["ensemble"] == "baseline" else own
        table = find(tables(results), "robustness")
        assert table is not None
        marks[own, base] = table.rows[0][-1].verdict
    worse = {pair: max(pair, key=VERDICTS.index) for pair in marks}
    assert marks == {pair: None if verdict == "trusted" else verdict for pair, verdict in worse.items()}
