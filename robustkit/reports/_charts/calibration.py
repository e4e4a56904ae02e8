"""Reliability diagrams: accuracy by confidence, a chart per ensemble, before and after the temperature."""

from __future__ import annotations

from collections.abc import Iterator

from markupsafe import Markup

from robustkit.records.schema import Results
from robustkit.records.schema_suites import Calibration, CalibrationResult, ReliabilityBin
from robustkit.reports import _format as f
from robustkit.reports._charts._axis import Axis, nice_ticks
from robustkit.reports._charts._chart import Chart, Entry, Panel
from robustkit.reports._charts._marks import Series, curve, marker, markers, numbered, swatch
from robustkit.reports._charts._panel import panel, reference
from robustkit.reports._charts._svg import Point, element, line, number
from robustkit.reports._suite_calibration import FEW, FUSED, outputs, title_of
from robustkit.reports._table import Cell, Table, cells

WHEN = ("before", "after")
BELOW = 0.22  # how far all samples would hang below the axis
TICKS = tuple((value, f"{value:g}") for value in nice_ticks(0.0, 1.0))
X = Axis(0.0, 1.0, TICKS, "confidence")
Y = Axis(-BELOW - 0.02, 1.02, TICKS, "accuracy; below 0: share of samples")


def calibration(results: Results) -> Iterator[Chart]:
    """Yield a chart for each ensemble: bars are the fused output, lines the members."""
    taken = set[str]()
    for ensemble, every in outputs(results).items():
        name = f.unique(f.slug("calibration", ensemble), taken)
        alt = f"{ensemble}: reliability diagrams, accuracy against confidence, before and after the temperature."
        looks = numbered([r["output"] for r in every], "o")
        panels = [_panel(f"{name}-{when}", when, every, looks, alt) for when in WHEN]
        legend = [Entry(_box("bar"), "ensemble, accuracy"), Entry(_box("gap"), "its gap to the confidence")]
        legend += [Entry(_box("count"), "its share of samples")]
        legend += [Entry(swatch(look), output, look.keys[0]) for output, look in looks.items() if output != FUSED]
        title = f"{ensemble}: reliability before and after a temperature"
        note = f"Of a member's line, bins of fewer than {FEW} samples are left out."
        yield Chart(name, "calibration", title, alt, panels, [("", legend)], [_table(name, every)], note=note)


def _panel(ident: str, when: str, every: list[CalibrationResult], looks: dict[str, Series], alt: str) -> Panel:
    title, lines, points = when, [reference("M0 0L1 1M0 0H1")], list[Markup]()
    for r in every:
        quality = r["before"] if when == "before" else r["after"]
        if r["output"] == FUSED:
            title = title_of(r, when, quality)
        if quality is None:
            continue
        look = looks[r["output"]]
        if r["output"] == FUSED:
            points.append(_bars(quality, look))
        else:
            bins = [b for b in quality["bins"] if b["count"] >= FEW]
            measured: list[Point] = [(b["confidence"] or 0.0, b["accuracy"]) for b in bins]
            lines.append(curve(line(measured), look))
            made = [marker(X, Y, p, look, _said(look.name, b)) for p, b in zip(measured, bins, strict=True)]
            points.append(markers(look, made))
    return panel(ident, title, alt, X, Y, lines, sorted(points, key=lambda one: "bars" not in one[:40]), "square")


def _bars(quality: Calibration, look: Series) -> Markup:
    """Return for each bin its accuracy, the gap to its confidence, and its share of samples below."""
    every = sum(b["count"] for b in quality["bins"])
    parts = []
    for b in quality["bins"]:
        if b["confidence"] is not None and b["accuracy"] is not None:
            low, high = sorted((b["confidence"], b["accuracy"]))
            parts.append(element(
                "g", element("title", _said("ensemble", b)), _rect(b, 0.0, b["accuracy"], "bar"),
                _rect(b, low, high, "gap"), _rect(b, -BELOW * b["count"] / every, 0.0, "count"), class_="point",
            ))  # fmt: skip
    return element("g", *parts, class_="bars", data_name=look.name)


def _rect(b: ReliabilityBin, low: float, high: float, look: str) -> Markup:
    width, height = X.place(b["high"]) - X.place(b["low"]), Y.place(high) - Y.place(low)
    return element(
        "rect", class_=look, x=X.across(b["low"]), y=Y.up(high), width=f"{number(100 * width)}%",
        height=f"{number(100 * height)}%",
    )  # fmt: skip


def _box(look: str) -> Markup:
    box = element("rect", class_=look, x=8, y=1, width=20, height=12)
    return element("svg", box, class_="swatch", viewBox="0 0 36 14", width=36, height=14, aria_hidden="true")


def _said(output: str, b: ReliabilityBin) -> str:
    return (
        f"{output}, confidence {f.percent(b['low'])} to {f.percent(b['high'])} %: mean {f.percent(b['confidence'])}, "
        f"accuracy {f.percent(b['accuracy'])}, {b['count']} samples"
    )


def _table(name: str, every: list[CalibrationResult]) -> Table:
    """Return a row for each output and bin, before and after."""
    rows: list[list[Cell]] = []
    for r in every:
        bins = [quality["bins"] if quality else [] for quality in (r["before"], r["after"])]
        for at in range(max(map(len, bins))):
            both = [own[at] if at < len(own) else None for own in bins]
            if any(b and b["count"] for b in both):
                about = next(b for b in both if b)
                span = f"{f.percent(about['low'])} to {f.percent(about['high'])}"
                rows.append(cells(r["output"], span, *(text for b in both for text in _texts(b))))
    columns = ["output", "confidence %", *("samples", "mean %", "accuracy %"), "samples, after", "mean %", "accuracy %"]
    return Table(name, "The numbers of the diagrams", columns, "ll" + "r" * 6, rows, "", 2, True)


def _texts(b: ReliabilityBin | None) -> list[str]:
    return [str(b["count"]), f.percent(b["confidence"]), f.percent(b["accuracy"])] if b else [f.NONE] * 3
