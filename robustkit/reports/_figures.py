"""Every figure of a report as matplotlib Figures: no pyplot, no global state, so any thread may draw."""

from __future__ import annotations

import io
from collections.abc import Iterator
from dataclasses import dataclass

from matplotlib.figure import Figure

from robustkit.reports._curves import curves
from robustkit.reports._distortion import distortion
from robustkit.reports._heatmaps import heatmaps
from robustkit.reports._style import DPI
from robustkit.schema import Results


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
        self.figure.savefig(stream, format="png", dpi=DPI, metadata={"Software": None})
        return stream.getvalue()

    def svg(self) -> bytes:
        """Return the figure as SVG, without the date."""
        stream = io.BytesIO()
        self.figure.savefig(stream, format="svg", metadata={"Date": None})
        return stream.getvalue()


def drawings(results: Results) -> Iterator[Drawing]:
    """Yield the figures that have something to show, in reading order."""
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
