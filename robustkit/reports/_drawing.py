"""One figure of a report, as any writer of files takes it: PNG or SVG, without a date, laid out once."""

from __future__ import annotations

import io
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

from robustkit.reports._style import DPI

if TYPE_CHECKING:  # half a second, which a page without figures does not need
    from matplotlib.figure import Figure


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
        from matplotlib import rcParams

        engine = self.figure.get_layout_engine()
        if engine is not None:
            engine.execute(self.figure)
            # None drops the engine, unless a matplotlibrc asks for one of its own everywhere; with the placeholder that
            # "none" leaves behind, savefig would still go over the whole figure once more for a layout.
            theirs = rcParams["figure.autolayout"] or rcParams["figure.constrained_layout.use"]
            self.figure.set_layout_engine("none" if theirs else None)
        return self.figure
