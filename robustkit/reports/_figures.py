"""Every figure of a report as matplotlib Figures: no pyplot, no global state, so any thread may draw."""

from __future__ import annotations

from collections.abc import Iterator

from robustkit.records.schema import Results
from robustkit.reports import _suites
from robustkit.reports._curves import curves
from robustkit.reports._distortion import distortion
from robustkit.reports._drawing import Drawing
from robustkit.reports._heatmaps import heatmaps
from robustkit.reports._once import once


def drawings(results: Results) -> list[Drawing]:
    """Return the figures that have something to show, in reading order; reports written together share them."""
    return once(_drawn, results)


def _drawn(results: Results) -> Iterator[Drawing]:
    known = {e["id"] for e in results["ensembles"]}
    if known & {run["ensemble"] for run in (*results["evaluations"], *results["worst_case"])}:
        alt = "Robust accuracy against the perturbation budget, a curve per ensemble and attack."
        yield Drawing("robust-accuracy", alt, curves(results), "curves")
    if results["minimum_norm"]:
        alt = "Accuracy against the size of the smallest perturbation found, a curve per ensemble and attack."
        yield Drawing("distortion", alt, distortion(results), "curves")
    for name, title, figure in heatmaps(results):
        yield Drawing(name, f"Transfer matrices. {title}", figure, "transfer")
    yield from _suites.drawings(results)
