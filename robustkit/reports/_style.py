"""The look that the figures share: a colour-blind safe palette (Okabe and Ito 2008), quiet axes."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from matplotlib.axes import Axes

PALETTE = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000")
INK, SOFT, GRID = "#1f2328", "#57606a", "#e4e7eb"
DPI = 160


def bare(axes: Axes) -> None:
    """Leave only the axis line at the bottom."""
    for side in ("top", "right", "left"):
        axes.spines[side].set_visible(False)
    axes.spines["bottom"].set_color(SOFT)
