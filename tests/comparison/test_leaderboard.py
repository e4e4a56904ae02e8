"""Stored evaluations in one ranking."""

from __future__ import annotations

import contextlib
import io
import re
import sys
from pathlib import Path

import pytest
from in_process import invoke
from stored import changed, evaluation, some

from robustkit import __main__
from robustkit.base.errors import UserError
from robustkit.comparison import leaderboard


@pytest.fixture
def runs(tmp_path: Path) -> Path:
    """Four models, the best number of which is invalid."""
    for name, verdict, right in (
        ("a", "suspect", 45), ("deep/b", "trusted", 20), ("c", "trusted", 30), ("d", "invalid", 50)
    ):  # fmt: skip
        evaluation(
            tmp_path / name, {f"<{name}>": {None: some(50, 50), 0.1: some(50, right), 0.2: some(50, right - 10)}},
            verdict=verdict, attacks=("pgd", "mim"),
        )  # fmt: skip
    (tmp_path / "c" / "report.html").write_text("the report")
    return tmp_path


def test_by_verdict_then_by_worst_case(runs: Path):
    found = leaderboard.leaderboard(runs)
    assert [entry.ensemble["id"] for entry in found.entries] == ["<c>", "<deep/b>", "<a>", "<d>"]
    assert [entry.worst["robust_accuracy"] for entry in found.entries] == [0.4, 0.2, 0.7, 0.8]  # the headline eps: 0.2
    assert found.mixed == []
    assert [entry.worst["robust_accuracy"] for entry in leaderboard.leaderboard(runs, 0.1).entries] == [
        0.6,
        0.4,
        0.9,
        1,
    ]


def test_what_does_not_compare_is_said(runs: Path):
    evaluation(runs / "e", {"e": {None: some(20, 20), 0.5: some(20, 10)}}, sha="e" * 64)
    evaluation(runs / "f", {"f": {None: some(20, 20)}}, sha="e" * 64, suites=())
    found = leaderboard.leaderboard(runs)
    assert found.mixed == ["images", "budgets"]
    assert "not all evaluated on the same images or budgets" in leaderboard.note(found)
    assert found.entries[-1].ensemble["id"] == "f"  # nothing attacked it
    assert found.entries[-1].worst is None
    assert len(leaderboard.table(found).rows) == 6


def test_what_cannot_be_read_is_left_out_and_said(runs: Path):
    changed(runs / "a", schema_version=9)
    (runs / "results.json").write_text("[1]")
    found = leaderboard.leaderboard(runs)
    assert len(found.entries) == 3
    assert "has schema_version 9" in found.unread[0]
    assert "it has no schema_version" in found.unread[1]
    assert leaderboard.note(found).count("Left out: ") == 2


def test_what_has_no_number_here_is_said(runs: Path):
    (runs / "a" / "results.json").unlink()
    evaluation(runs / "e", {"e": {None: some(20, 20), 0.5: some(20, 10)}})
    found = leaderboard.leaderboard(runs, 0.1)
    assert [entry.ensemble["id"] for entry in found.entries] == ["<c>", "<deep/b>", "<d>"]
    assert "/a' has runs, but no results.json" in found.unread[0]
    assert "/e' was not run at eps 0.1." in found.unread[1]


def test_refused(runs: Path, tmp_path_factory: pytest.TempPathFactory):
    with pytest.raises(UserError, match="--eps 0.3 was run by none of the evaluations below .*; there are 0.1, 0.2"):
        leaderboard.leaderboard(runs, 0.3)
    with pytest.raises(UserError, match="--eps 0.2 l2 was run by none"):
        leaderboard.leaderboard(runs, 0.2, "l2")
    with pytest.raises(UserError, match="results.json' is no folder"):
        leaderboard.leaderboard(runs / "a" / "results.json")
    with pytest.raises(UserError, match="holds no results.json"):
        leaderboard.leaderboard(tmp_path_factory.mktemp("empty"))


def test_the_command_writes_a_page_that_sorts(runs: Path):
    code, printed, error = invoke("leaderboard", runs)
    assert (code, error) == (0, "")
    assert printed.splitlines()[-1] == f"report: {runs}/leaderboard.html"
    text = (runs / "leaderboard.html").read_text()
    rows = re.findall(r'<th scope="row" data-key="([^"]+)">(.*?)</th>', text)
    assert rows[0] == ("&lt;c&gt;", '<a href="c/report.html">&lt;c&gt;</a>')
    assert [key for key, _ in rows] == ["&lt;c&gt;", "&lt;deep/b&gt;", "&lt;a&gt;", "&lt;d&gt;"]
    assert rows[1][1] == "&lt;deep/b&gt;"  # no report lies beside it
    assert "http:" not in text
    assert "https:" not in text
    columns = len(re.findall(r"<th scope=\"col\"", text))
    first = re.search(r"<tbody>\s*<tr>(.*?)</tr>", text, re.DOTALL)[1]
    assert first.count("data-key=") == columns  # the script sorts by them
    assert invoke("leaderboard", runs, "--eps", "1.5")[0] == 2
    assert invoke("leaderboard", runs, "--norm", "l2")[0] == 2  # without an eps


def test_a_name_that_the_encoding_of_the_screen_lacks_is_printed_all_the_same(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    evaluation(tmp_path / "one", {"модель": {None: some(20, 20), 0.5: some(20, 10)}})
    written = io.BytesIO()  # of a pipe or a file on Windows
    monkeypatch.setattr(sys, "stdout", io.TextIOWrapper(written, encoding="cp1252", write_through=True))
    monkeypatch.setattr(sys, "argv", ["robustkit", "leaderboard", str(tmp_path)])
    with contextlib.suppress(SystemExit):  # cyclopts may exit, with 0
        __main__.main()
    assert rb"\u043c\u043e" in written.getvalue()
