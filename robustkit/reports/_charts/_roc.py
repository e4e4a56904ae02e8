"""ROC curves: of detection scores and of out-of-distribution sets."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import NamedTuple

from robustkit.reports import _format as f
from robustkit.reports._charts._axis import Axis, nice_ticks
from robustkit.reports._charts._chart import Panel
from robustkit.reports._charts._marks import Series, curve, marker
from robustkit.reports._charts._panel import panel, reference
from robustkit.reports._charts._svg import line
from robustkit.reports._table import Cell, Table, cells

AT = (0.01, 0.05, 0.1, 0.2, 0.5)  # false-positive rates of the table


class Roc(NamedTuple):
    """One curve: the score that it is of, what a reader is told of it, and its points."""

    score: str
    about: str
    auroc: float | None
    fpr: Sequence[float]
    tpr: Sequence[float]


def roc_panel(ident: str, title: str, alt: str, x: str, curves: Sequence[Roc], looks: dict[str, Series]) -> Panel:
    """Return a square panel with the diagonal, which is chance, and a curve per score."""
    ticks = tuple((value, f"{value:g}") for value in nice_ticks(0.0, 1.0))
    across, up = Axis(0.0, 1.0, ticks, x), Axis(0.0, 1.0, ticks, "normal images taken for normal")
    lines, points = [reference("M0 0L1 1")], []
    for one in curves:
        look = looks[one.score]
        lines.append(curve(line(zip(one.fpr, one.tpr, strict=True)), look, readable=True))
        if one.fpr:
            # A marker on the curve, each score's at another place, so that no two lie on each other.
            wanted = (look.colour + 1) / (len(looks) + 2)
            at = min(range(len(one.fpr)), key=lambda k: abs(one.fpr[k] + 1 - one.tpr[k] - 2 * wanted + 0.0))
            points.append(marker(across, up, (one.fpr[at], one.tpr[at]), look, one.about))
    return panel(ident, title, alt, across, up, lines, points, "square")


def roc_table(name: str, title: str, groups: Iterable[tuple[str, Sequence[Roc]]], what: str) -> Table:
    """Return the share of normal images that pass where so many of the others do, a row per curve."""
    rows: list[list[Cell]] = []
    for group, curves in groups:
        for one in curves:
            auroc = f.NONE if one.auroc is None else f.Number.of(one.auroc, "{:.3f}".format)
            rows.append(cells(group, one.score, auroc, *(f.percent(_at(one, most)) for most in AT)))
    columns = [what, "score", "AUROC", *(f"at {100 * most:g} %" for most in AT)]
    note = (
        "Normal images taken for normal, in %, at the last point of the curve where no more than so many of the others "
        "are; every point is in results.json."
    )
    return Table(name, title, columns, "ll" + "r" * (len(columns) - 2), rows, note, 2, True)


def _at(one: Roc, most: float) -> float | None:
    """Return the largest true-positive rate where the false-positive rate is no larger than that."""
    return max((t for x, t in zip(one.fpr, one.tpr, strict=True) if x <= most), default=None)
