"""Accuracy against distance: what minimum-norm attacks found; the marker is the median distance."""

from __future__ import annotations

from collections.abc import Iterator

from robustkit.records.schema import MinimumNorm, Results
from robustkit.reports import _format as f
from robustkit.reports._charts._axis import Axis, linear, shares
from robustkit.reports._charts._chart import Chart, Entry, Panel
from robustkit.reports._charts._marks import Series, curve, marker, numbered, swatch
from robustkit.reports._charts._panel import panel
from robustkit.reports._charts._svg import Point, steps
from robustkit.reports._labels import in_order
from robustkit.reports._table import Table, cells

NAME = "distortion"


def distances(results: Results) -> Iterator[Chart]:
    """Yield the curves of all minimum-norm attacks, a panel per norm."""
    runs = in_order(results, results["minimum_norm"])
    if not runs:
        return
    looks = numbered(list(dict.fromkeys(map(_name, runs))), "m")
    alt = "Accuracy against the size of the smallest perturbation found, a curve per ensemble and attack."
    by = {norm: [run for run in runs if run["norm"] == norm] for norm in dict.fromkeys(run["norm"] for run in runs)}
    axes = {
        norm: linear((eps for run in own for eps in run["eps"]), f"distance ({norm})", low=0.0)
        for norm, own in by.items()
    }
    yield Chart(
        NAME, "curves", "Accuracy against the size of the smallest perturbation found", alt,
        [_panel(norm, own, axes[norm], looks, alt) for norm, own in by.items()],
        [("", [Entry(swatch(look), name, look.keys[0]) for name, look in looks.items()])],
        [_table(norm, own, axes[norm]) for norm, own in by.items()],
        note="A marker is the median distance, of which there is none where half of the samples stand.",
    )  # fmt: skip


def _name(run: MinimumNorm) -> str:
    return f"{run['ensemble']}, {run['attack']}" + (", targeted" if run["targeted"] else "")


def _panel(norm: str, runs: list[MinimumNorm], x: Axis, looks: dict[str, Series], alt: str) -> Panel:
    y = shares("accuracy (%)")
    lines, points = [], []
    for run in runs:
        look = looks[_name(run)]
        measured: list[Point] = list(zip(run["eps"], run["accuracy"], strict=True))
        lines.append(curve(steps(measured), look, readable=True))
        if run["median"] is not None:
            said = f"{look.name}: median distance {f.number(run['median'])}"
            points.append(marker(x, y, (run["median"], 0.5), look, said))
    return panel(f"{NAME}-{norm}", f"Accuracy against distance, {norm}", alt, x, y, lines, points, "tall")


def _table(norm: str, runs: list[MinimumNorm], x: Axis) -> Table:
    """Return the accuracy of each run at the ticks of the axis."""
    places = [value for value, _ in x.ticks]
    columns = ["ensemble, attack", "broken %", "median", *(text for _, text in x.ticks)]
    rows = [
        cells(
            _name(run), f.percent(run["found"]), f.number(run["median"]),
            *(f.percent(_at(run, place)) for place in places),
        )
        for run in runs
    ]  # fmt: skip
    note = f"Accuracy in % at each distance ({norm}); every step of the curves is in results.json."
    title = f"The numbers of the curves, {norm}"
    return Table(f"{NAME}-{norm}", title, columns, "l" + "r" * (len(columns) - 1), rows, note)


def _at(run: MinimumNorm, distance: float) -> float:
    """Return the share of samples that need more than a distance: the last step at or below it."""
    below = [share for eps, share in zip(run["eps"], run["accuracy"], strict=True) if eps <= distance]
    return below[-1] if below else run["clean_accuracy"]
