"""Charts of a search for its page: the candidates by size and accuracy, and what the search did by epoch."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from robustkit.reports import _format as f
from robustkit.reports._charts import Chart
from robustkit.reports._charts._axis import linear
from robustkit.reports._charts._chart import Entry, Panel
from robustkit.reports._charts._marks import Series, curve, marker, markers, numbered, swatch
from robustkit.reports._charts._panel import panel
from robustkit.reports._charts._svg import line
from robustkit.reports._table import Table, cells

NO_MEASURE = ("epoch", "seconds")
CHOSEN, LEFT = "in the ensemble", "not chosen"


def candidates(record: Mapping[str, Any]) -> list[Chart]:
    """Return the candidates' accuracy against their parameters, where they differ in size."""
    rows = record["candidates"]
    if len({row["parameters"] for row in rows}) < 2:
        return []
    x = linear((row["parameters"] for row in rows), "parameters", most=5)
    y = linear((row["validation_accuracy"] for row in rows), "validation accuracy (%)", scale=100)
    looks = numbered((CHOSEN, LEFT), "c")
    groups = {name: [row for row in rows if (row["name"] in record["chosen"]) == (name == CHOSEN)] for name in looks}
    points = []
    for name, own in groups.items():
        said = [
            marker(x, y, (r["parameters"], r["validation_accuracy"]), looks[name], _said(r, name)) for r in own
        ]  # fmt: skip
        points.append(markers(looks[name], said))
    alt = "Validation accuracy of every candidate against its number of parameters."
    legend = [Entry(swatch(look, lined=False), name, look.keys[0]) for name, look in looks.items() if groups[name]]
    title = "Candidates by size and accuracy"
    drawn = panel("candidates", title, alt, x, y, [], points)
    return [Chart("candidates", "search", title, alt, [drawn], [("", legend)])]


def _said(row: Mapping[str, Any], group: str) -> str:
    return f"{row['name']}, {group}: {f.percent(row['validation_accuracy'])} %, {row['parameters']:,} parameters"


def history(record: Mapping[str, Any]) -> list[Chart]:
    """Return what each part of the search measured by epoch: a panel a measure, a curve a part."""
    parts = {name: rows for name, rows in record["history"].items() if rows and "epoch" in rows[0]}
    measures = list(dict.fromkeys(key for rows in parts.values() for key in rows[0] if key not in NO_MEASURE))
    if not measures:
        return []
    looks = numbered(list(parts), "p")
    title = "What the search measured by epoch"
    legend = [("", [Entry(swatch(look, marked=False), name, look.keys[0]) for name, look in looks.items()])]
    panels = [_panel(measure, parts, looks) for measure in measures]
    return [Chart("history", "search", title, title, panels, legend, [_table(parts, measures)])]


def _panel(measure: str, parts: Mapping[str, Sequence[Mapping[str, float]]], looks: Mapping[str, Series]) -> Panel:
    name = measure.replace("_", " ")
    own = {part: [(row["epoch"], row[measure]) for row in rows if measure in row] for part, rows in parts.items()}
    x = linear((epoch for points in own.values() for epoch, _ in points), "epoch", most=5)
    y = linear((value for points in own.values() for _, value in points), name, most=5)
    lines = [curve(line(points), looks[part], readable=True) for part, points in own.items() if points]
    return panel(f.slug("history", measure), name, f"{name} by epoch, a curve for each part.", x, y, lines, (), "small")


def _table(parts: Mapping[str, Sequence[Mapping[str, float]]], measures: Sequence[str]) -> Table:
    rows = [
        cells(part, f"{row['epoch']:.0f}", *(f.number(row.get(measure)) for measure in measures))
        for part, own in parts.items()
        for row in own
    ]
    columns = ["part", "epoch", *(measure.replace("_", " ") for measure in measures)]
    return Table("history", "By epoch", columns, "lr" + "r" * len(measures), rows, lead=2)
