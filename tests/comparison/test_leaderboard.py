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


def test_who_withstands_all_norms_has_a_column_where_several_were_run(runs: Path):
    assert "robust to all %" not in leaderboard.table(leaderboard.leaderboard(runs)).columns
    right, l2 = {None: some(50, 50), 0.1: some(50, 20), 0.2: some(50, 10)}, {0.5: some(50, 9), 1.0: some(50, 4)}
    evaluation(runs / "e", {"e": right}, norms={"l2": {"e": l2}}, verdict="suspect")
    found = leaderboard.leaderboard(runs)
    table = leaderboard.table(found)
    at = table.columns.index("robust to all %")
    assert table.columns[at - 1 : at + 3] == ["strongest attack", "robust to all %", "of", "data"]
    assert len(table.align) == len(table.columns) == len(table.rows[0])
    own = {row[1].text: (row[at].text.split(" ")[0], row[at].verdict, row[at + 1].text) for row in table.rows}
    assert own.pop("e") == ("8.0", "suspect", "0.2 linf and 1 l2")  # of the budgets that go with the headline's
    assert set(own.values()) == {("-", None, "-")}
    smaller = leaderboard.table(leaderboard.leaderboard(runs, 0.1))
    assert ["18.0", "0.1 linf and 0.5 l2"] in [[row[at].text.split(" ")[0], row[at + 1].text] for row in smaller.rows]
    assert "Robust to all: what no attack broke" in leaderboard.note(found)
    assert "budgets of all norms" not in found.mixed
    evaluation(runs / "f", {"f": right}, norms={"l2": {"f": {0.7: some(50, 3)}}})
    assert "budgets of all norms" in leaderboard.leaderboard(runs).mixed
    text = leaderboard.write(leaderboard.leaderboard(runs), runs / "board.html").read_text()
    columns = len(re.findall(r"<th scope=\"col\"", text))
    lines = re.findall(r"<tr>\s*<th scope=\"row\".*?</tr>", text, re.DOTALL)
    assert {line.count("data-key=") for line in lines} == {columns} == {15}
    assert "0.2 linf and 1 l2" in text
