"""Every figure of a report as matplotlib Figures: no pyplot, no global state, so any thread may draw."""

from __future__ import annotations

import io
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property

from matplotlib import rcParams
from matplotlib.figure import Figure

from robustkit.records.schema import Results
from robustkit.reports._curves import curves
from robustkit.reports._distortion import distortion
from robustkit.reports._heatmaps import heatmaps
from robustkit.reports._once import once
from robustkit.reports._style import DPI


@dataclass(frozen=True)
class Drawing:
    """A figure with its file name (without ending), the sentence that replaces it for who cannot see it, its kind."""

    name: str
    alt: str
    figure: Figure
    kind: str

    def png(self) -> bytes:
        """Return the figure as PNG."""
        stream = io.BytesIO()
        self._laid_out.savefig(stream, format="png", dpi=DPI, metadata={"Software": None})
        return stream.getvalue()

    def svg(self) -> bytes:
        """Return the figure as SVG, without the date; rendered once, since two reports show it."""
        return self._svg

    @cached_property
    def _svg(self) -> bytes:
        stream = io.BytesIO()
        self._laid_out.savefig(stream, format="svg", metadata={"Date": None})
        return stream.getvalue()

    @cached_property
    def _laid_out(self) -> Figure:
        """The figure with its layout found once: matplotlib would measure every text again for each file."""
        engine = self.figure.get_layout_engine()
        if engine is not None:
            engine.execute(self.figure)
            # None drops the engine, unless a matplotlibrc asks for one of its own everywhere; with the placeholder that
            # "none" leaves behind, savefig would still go over the whole figure once more for a layout.
            theirs = rcParams["figure.autolayout"] or rcParams["figure.constrained_layout.use"]
            self.figure.set_layout_engine("none" if theirs else None)
        return self.figure


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
    from robustkit.reports import _suites  # whose modules draw with this one

    yield from _suites.drawings(results)
