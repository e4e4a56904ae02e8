"""Calibration in a report: what a temperature changes, and reliability diagrams before and after."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import numpy as np

from robustkit.metrics.calibration import Floats
from robustkit.records.schema import Results
from robustkit.records.schema_suites import Calibration, CalibrationResult
from robustkit.reports import _format as f
from robustkit.reports._drawing import Drawing
from robustkit.reports._labels import in_order
from robustkit.reports._style import DPI, GRID, INK, PALETTE, SOFT, bare
from robustkit.reports._table import Table, cells

if TYPE_CHECKING:  # half a second, which a page without figures does not need
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

FUSED = "ensemble"
MOST = 4  # ensembles in one figure
FEW = 5  # samples: a bin of fewer is no point of a member's line
SOURCES = {
    "validation": "samples of the validation split",
    "half": "of the evaluated samples, which are not measured on",
}


def tables(results: Results) -> Iterator[Table]:
    """Yield what the temperature of each output is and changes, then the bins of the fused outputs."""
    every = in_order(results, results["calibration"])
    columns = [
        "ensemble",
        "output",
        "T",
        "accuracy %",
        "NLL",
        "NLL after",
        "ECE %",
        "ECE % after",
        "Brier",
        "Brier after",
    ]
    rows = [
        cells(r["ensemble"], r["output"], f.number(r["temperature"]), f.percent(r["accuracy"]), *_pairs(r))
        for r in every
    ]
    first = every[0]
    notes = dict.fromkeys(f"{r['ensemble']}: {note}." for r in every if r["output"] == FUSED for note in r["notes"])
    note = (
        f"On n = {first['n']} samples; after: with temperature T, fitted on {first['fitted_n']} "
        f"{SOURCES[first['fitted_on']]}. ECE in 15 bins; NLL in nats; Brier in [0, 2]. " + " ".join(notes)
    ).strip()
    yield Table("calibration", "Calibration", columns, "llrrrrrrrr", rows, note, 2, True, _records(every))
    columns = ["ensemble", "confidence %", "samples", "mean %", "accuracy %", "samples, after", "mean %", "accuracy %"]
    bins = [
        cells(
            r["ensemble"],
            f"{f.percent(b['low'])} to {f.percent(b['high'])}",
            *_bin(b),
            *(_bin(a) if r["after"] else [f.NONE] * 3),
        )  # fmt: skip
        for r in every
        if r["output"] == FUSED and r["before"]
        for b, a in zip(r["before"]["bins"], (r["after"] or r["before"])["bins"], strict=True)
        if b["count"] or (r["after"] and a["count"])
    ]
    note = "Of the fused output, before and after the temperature."
    yield Table("calibration-bins", "Confidence and accuracy", columns, "llrrrrrr", bins, note, 2, True)


def drawings(results: Results) -> Iterator[Drawing]:
    """Yield reliability diagrams, four ensembles in a figure."""
    groups = list(outputs(results).values())
    for at in range(0, len(groups), MOST):
        name = "calibration" if at == 0 else f"calibration-{at // MOST + 1}"
        alt = "Reliability diagrams: accuracy against confidence, before and after the temperature, a row per ensemble."
        yield Drawing(name, alt, _diagrams(groups[at : at + MOST]), "calibration")


def outputs(results: Results) -> dict[str, list[CalibrationResult]]:
    """Return the outputs of each ensemble, the fused one and its members, that have a number."""
    by: dict[str, list[CalibrationResult]] = {}
    for r in in_order(results, results["calibration"]):
        if r["before"]:
            by.setdefault(r["ensemble"], []).append(r)
    return by


def _diagrams(groups: list[list[CalibrationResult]]) -> Figure:
    """Draw a row per ensemble: before and after; bars are the fused output, lines the members."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(8.0, 3.6 * len(groups)), layout="constrained", facecolor="white", dpi=DPI)
    for row, group in zip(figure.subplots(len(groups), 2, squeeze=False), groups, strict=True):
        for axes, when in zip(row, ("before", "after"), strict=True):
            for r in group:
                quality = r["before"] if when == "before" else r["after"]
                if r["output"] == FUSED:
                    axes.set_title(title_of(r, when, quality), fontsize=9, color=INK)
                if quality is not None:
                    _bars(axes, quality) if r["output"] == FUSED else _line(axes, quality)
            _frame(axes)
    figure.suptitle("Reliability before and after a temperature: bars fused, lines members", fontsize=10, color=INK)
    return figure


def title_of(r: CalibrationResult, when: str, quality: Calibration | None) -> str:
    if quality is None:
        return f"{r['ensemble']}: no temperature could be fitted"
    how = "" if when == "before" else f", T = {f.number(r['temperature'])}"
    return f"{r['ensemble']}{how}: ECE {f.percent(quality['ece'])} %, NLL {f.number(quality['nll'])}"


def _bars(axes: Axes, quality: Calibration) -> None:
    """Draw accuracy by confidence, the gap to the diagonal, and the share of samples below."""
    bins = [b for b in quality["bins"] if b["count"]]
    low, width = np.array([b["low"] for b in bins]), bins[0]["high"] - bins[0]["low"]
    confidence, accuracy = _points(quality)
    shares = np.array([b["count"] for b in bins]) / sum(b["count"] for b in bins)
    axes.bar(low, accuracy, width, align="edge", color=PALETTE[0], alpha=0.75, edgecolor="white", linewidth=0.8)
    gap = confidence - accuracy
    axes.bar(low, gap, width, accuracy, align="edge", facecolor="none", edgecolor=PALETTE[1], lw=0.8, hatch="////")
    axes.bar(low, -0.22 * shares, width, align="edge", color=SOFT, alpha=0.5)  # the samples hang below the axis


def _line(axes: Axes, quality: Calibration) -> None:
    axes.plot(*_points(quality, FEW), color=INK, alpha=0.45, linewidth=0.9, marker="o", markersize=2.5)


def _points(quality: Calibration, least: int = 1) -> tuple[Floats, Floats]:
    """Return confidence and accuracy of the bins that hold so many samples."""
    bins = [b for b in quality["bins"] if b["count"] >= least]
    return np.array([b["confidence"] for b in bins], float), np.array([b["accuracy"] for b in bins], float)


def _frame(axes: Axes) -> None:
    axes.plot([0, 1], [0, 1], color=SOFT, linewidth=0.9, linestyle=(0, (1, 2)))
    axes.axhline(0, color=GRID, linewidth=0.8)
    axes.set_xlim(0, 1)
    axes.set_ylim(-0.24, 1.02)
    axes.set_yticks(np.linspace(0, 1, 6))
    axes.set_xlabel("confidence", fontsize=8, color=SOFT)
    axes.set_ylabel("accuracy; below 0: share of samples", fontsize=8, color=SOFT)
    axes.tick_params(labelsize=8, colors=SOFT)
    bare(axes)


def _pairs(r: CalibrationResult) -> list[str]:
    """Return NLL, ECE and Brier, each before and after."""
    columns = [
        [_four(q["nll"]), f.Number.of(100 * q["ece"], "{:.2f}".format), _four(q["brier"])] if q else [f.NONE] * 3
        for q in (r["before"], r["after"])
    ]
    return [text for pair in zip(*columns, strict=True) for text in pair]


def _four(value: float) -> f.Number:
    return f.Number.of(value, "{:.4f}".format)


def _bin(b: Any) -> list[str]:
    return [str(b["count"]), f.percent(b["confidence"]), f.percent(b["accuracy"])]


def _records(every: list[CalibrationResult]) -> list[dict[str, Any]]:
    """Return one record per ensemble and output."""
    found = []
    for r in every:
        record: dict[str, Any] = {
            key: r[key] for key in ("ensemble", "output", "n", "fitted_on", "fitted_n", "temperature", "accuracy")
        }
        for when in ("before", "after"):
            quality = r[when]
            record |= {f"{key}_{when}": quality[key] if quality else None for key in ("nll", "ece", "brier")}
        found.append(record)
    return found
