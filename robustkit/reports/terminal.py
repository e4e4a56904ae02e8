"""The report in a terminal: the same tables as everywhere, cut to its width, and transfer matrices in colour."""

from __future__ import annotations

from collections.abc import Iterator

import rich.box
import rich.table
from rich.console import Console
from rich.padding import Padding
from rich.text import Text

from robustkit.records.schema import Results, Transfer
from robustkit.reports import _format as f
from robustkit.reports import _suites
from robustkit.reports._checks import by_check, worst_of
from robustkit.reports._labels import in_order, labeller, panel_text
from robustkit.reports._table import Cell, Table
from robustkit.reports._tables import find, tables

SHOWN = ("ensembles", "robustness", "worst-case", "union", "comparisons", "escalation", "optimality", "minimum-norm")
_VERDICT = {"trusted": "green", "unchecked": "cyan", "suspect": "yellow", "invalid": "bold red"}
_LONGEST = 26  # a column of text wraps beyond that; a column of numbers never does
_GAP = 2  # characters between columns


def show(results: Results, console: Console) -> None:
    """Print ensembles, robust accuracy, worst case, failing checks and transfer matrices.

    A table wider than the terminal continues below with its first columns repeated; a number is never broken.

    Parameters
    ----------
    console : rich.console.Console
        Where to print; without colour the marks and numbers say the same.
    """
    every = tables(results)
    for name in SHOWN:
        table = find(every, name)
        if table:
            show_table(table, console)
    _believe(results, console)
    _transfers(results, console)
    for name in _suites.SUITES:
        table = find(every, name)
        if table:
            show_table(table, console)


def show_table(table: Table, console: Console) -> None:
    """Print one table, in parts if it is wider than the terminal."""
    console.print(Text(table.title, style="bold"))
    for columns in _pages(table, console.width):
        grid = rich.table.Table(box=rich.box.SIMPLE_HEAD, show_edge=False, pad_edge=False, padding=(0, _GAP - 1, 0, 0))
        for at in columns:
            # fold breaks a word that is longer than its column, rather than dropping its end
            justify = "right" if table.align[at] == "r" else "left"
            width = min(_width(table, at), console.width)
            grid.add_column(Text(table.columns[at]), width=width, justify=justify, overflow="fold")  # type: ignore[arg-type]
        for index, row in enumerate(table.rows):
            if table.starts(index):
                grid.add_section()
            grid.add_row(*(_text(row[at]) for at in columns))
        console.print(grid)
    if table.note:
        console.print(Text(table.note, style="dim"))
    console.print()


def _pages(table: Table, width: int) -> Iterator[list[int]]:
    """Yield the columns of each part of a table that fits, each part with the leading columns."""
    lead = list(range(table.lead))
    page = list(lead)
    for at in range(table.lead, len(table.columns)):
        if len(page) > len(lead) and sum(_width(table, one) + _GAP for one in [*page, at]) - _GAP > width:
            yield page
            page = list(lead)
        page.append(at)
    yield page


def _width(table: Table, at: int) -> int:
    cells = max(len(str(row[at])) for row in table.rows)
    heading = max(map(len, table.columns[at].split()))
    return max(cells, min(heading, _LONGEST)) if table.align[at] == "r" else min(max(cells, heading), _LONGEST)


def _text(cell: Cell) -> Text:
    text = Text(str(cell))
    if cell.verdict:
        text.stylize(_VERDICT[cell.verdict], len(text) - 1)
    return text


def _believe(results: Results, console: Console) -> None:
    """Print each failing check once, with its advice and the numbers that it concerns."""
    groups = by_check(results)
    if not results["evaluations"]:
        return
    console.print(Text("Can these numbers be believed?", style="bold"))
    if not groups:
        console.print(Text("Every check of every number passed."), end="\n\n")
    for check, advice, failures in groups:
        verdict = worst_of(failures)
        console.print(Text.assemble((f.MARKS[verdict], _VERDICT[verdict]), " ", (check, "bold"), f" {advice}".rstrip()))
        for x in failures:
            value = "" if x.value is None else f": {f.number(x.value)} (threshold {f.number(x.threshold)})"
            console.print(Padding(Text(f"{x.ensemble}, {x.attack} at {x.budget}{value}", style="dim"), (0, 0, 0, 2)))
        console.print()


def _transfers(results: Results, console: Console) -> None:
    label = labeller(results)
    # Over all samples only: the matrices over common-correct samples are in the report, and the screen is short.
    everyone = [t for t in results["transfer"] if not t["metric"].endswith("-common-correct")]
    shown = sorted(in_order(results, everyone), key=lambda t: panel_text(t, label))
    if shown:
        console.print(Text("Transfer between members", style="bold"))
        console.print(
            Text(
                "Columns: scored on. The last row and column are the fused ensemble. Dark: the attack transfers. "
                "Over all samples; the report has those that every member classifies correctly, too.",
                style="dim",
            )
        )
    for t in shown:
        title = Text.assemble((t["ensemble"], "bold"), f", {panel_text(t, label)}")
        console.print(title)
        _matrix(t, console)
        console.print()


def _matrix(t: Transfer, console: Console) -> None:
    """Print a matrix with dark cells where the attack transfers, in parts if it is too wide."""
    names = [len(word) for target in t["targets"] for word in target.split()]
    cell = max(6, min(max(names, default=0), 12)) + 1
    lead = min(max(len(s) for s in ["crafted on", *t["sources"]]), _LONGEST) + 1
    fits = max(1, (console.width - lead) // cell)
    for start in range(0, len(t["targets"]), fits):
        part = range(start, min(start + fits, len(t["targets"])))
        grid = rich.table.Table(box=None, pad_edge=False, padding=0, collapse_padding=True)
        grid.add_column(Text("crafted on", style="dim"), width=lead, overflow="fold")
        for at in part:
            grid.add_column(Text(t["targets"][at]), width=cell, justify="center", overflow="fold")
        for source, row in zip(t["sources"], t["matrix"], strict=True):
            grid.add_row(Text(source), *(_shade(row[at], t["metric"], cell) for at in part))
        console.print(grid)


def _shade(value: float, metric: str, width: int) -> Text:
    """Return a number on its colour: from pale to dark blue the more the attack transfers."""
    # The names black and white are what the terminal makes of them; these are not.
    depth = 1 - value if metric.startswith("accuracy") else value
    pale, dark = (237, 244, 250), (8, 48, 107)
    red, green, blue = (round(a + (b - a) * depth) for a, b in zip(pale, dark, strict=True))
    ink = "#ffffff" if depth > 0.6 else "#000000"
    return Text(f.percent(value).center(width), style=f"{ink} on rgb({red},{green},{blue})")
