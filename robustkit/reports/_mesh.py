"""A matrix as a mesh of coloured cells, with its numbers in them: what every heatmap is made of."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from robustkit.reports._style import INK

if TYPE_CHECKING:  # half a second, which a page without figures does not need
    from matplotlib.axes import Axes
    from matplotlib.colors import Colormap, Normalize


def mesh(
    axes: Axes, values: npt.NDArray[Any], rows: Sequence[Any], columns: Sequence[Any], shades: Colormap,
    scale: Normalize, text: Callable[[float], str] | None = None, size: float = 8.0, labels: float = 8.0, **across: Any,
) -> None:  # fmt: skip
    """Draw a matrix (R, C) from the top left, its cells apart and with their numbers if ``text`` formats these.

    Parameters
    ----------
    values : array
        NaN leaves a cell empty.
    rows, columns : sequence
        Their R and C names.
    shades, scale
        Colours, and the range of values that they stand for.
    size, labels : float
        Font sizes of numbers and names, in points.
    **across
        Text properties of the columns' names, like ``rotation``.
    """
    # A mesh, not an image: crisp in SVG.
    apart: dict[str, Any] = {"edgecolor": "white", "linewidth": 1.0} if text else {}
    axes.pcolormesh(np.ma.masked_invalid(values), cmap=shades, norm=scale, **apart)
    for (row, column), value in np.ndenumerate(values) if text else ():
        if text and np.isfinite(value):
            # Inside its cell: a layout that measured every number would take longer than the drawing.
            axes.text(
                column + 0.5, row + 0.5, text(value), ha="center", va="center", fontsize=size,
                color=ink(shades(scale(value))), in_layout=False,
            )  # fmt: skip
    axes.set_xticks(np.arange(len(columns)) + 0.5, [str(name) for name in columns], **across)
    axes.set_yticks(np.arange(len(rows)) + 0.5, [str(name) for name in rows])
    axes.set_ylim(len(rows), 0)
    axes.tick_params(labelsize=labels, colors=INK, length=0)
    for spine in axes.spines.values():
        spine.set_visible(False)


def ink(colour: tuple[float, float, float, float]) -> str:
    """Return the text colour that reads better on a colour: WCAG relative luminance, equal contrast at 0.18."""
    from matplotlib.colors import to_rgb

    linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in to_rgb(colour)]
    return INK if sum(w * c for w, c in zip((0.2126, 0.7152, 0.0722), linear, strict=True)) > 0.18 else "white"
