"""Transfer matrices side by side, one panel per ensemble, all on one colour scale."""

from __future__ import annotations

import math
import textwrap
from collections import defaultdict
from collections.abc import Iterator
from typing import TYPE_CHECKING

import numpy as np

from robustkit.records.schema import Results, Transfer
from robustkit.reports import _format as f
from robustkit.reports._labels import budget, budget_text, in_order, labeller, panel_text
from robustkit.reports._mesh import mesh
from robustkit.reports._style import DPI, INK, SOFT

if TYPE_CHECKING:  # half a second, which a page without figures does not need
    from matplotlib.axes import Axes
    from matplotlib.colors import Colormap, Normalize
    from matplotlib.figure import Figure

_PER_ROW = 3


def colours(metric: str) -> Colormap:
    """Return the colour map of a metric: dark always means that the attack transfers."""
    from matplotlib import colormaps

    return colormaps["YlGnBu_r" if metric.startswith("accuracy") else "YlGnBu"]


def heatmaps(results: Results) -> Iterator[tuple[str, str, Figure]]:
    """Yield (file name, title, figure) per attack, budget and metric."""
    for name, title, group in matrices(results):
        yield name, title, heatmap(title, group)


def matrices(results: Results) -> Iterator[tuple[str, str, list[Transfer]]]:
    """Yield (file name, title, a matrix of each ensemble) per attack, budget and metric."""
    label, taken = labeller(results), set[str]()
    groups = defaultdict[str, list[Transfer]](list)
    for t in results["transfer"]:
        groups[panel_text(t, label)].append(t)
    for title, group in groups.items():
        first = group[0]
        name = f.slug("transfer", label(first), budget_text(*budget(first)), first["metric"])
        yield f.unique(name, taken), title, in_order(results, group)


def heatmap(title: str, group: list[Transfer]) -> Figure:
    """Draw the matrices of one attack and metric, a panel per ensemble."""
    from matplotlib.cm import ScalarMappable
    from matplotlib.colors import Normalize
    from matplotlib.figure import Figure
    from matplotlib.layout_engine import ConstrainedLayoutEngine

    across, scale = min(len(group), _PER_ROW), Normalize(0.0, 1.0)
    down = math.ceil(len(group) / across)
    size = min(max(0.72 * max(len(t["targets"]) for t in group), 2.4), 8.0)  # inches of one matrix
    figure = Figure(
        figsize=((size + 1.0) * across + 1.1, (size + 1.1) * down + 0.4),
        layout=ConstrainedLayoutEngine(wspace=0.06, hspace=0.06),
        facecolor="white",
        dpi=DPI,
    )
    panels = figure.subplots(down, across, squeeze=False).ravel()
    for axes, t in zip(panels, group, strict=False):
        _panel(axes, t, size / len(t["targets"]), scale)
    for axes in panels[len(group) :]:
        axes.set_visible(False)
    width = int(figure.get_figwidth() / 0.09)  # characters of 11 points
    figure.suptitle(textwrap.fill(title, width), fontsize=11, color=INK)
    bar = figure.colorbar(
        ScalarMappable(scale, colours(group[0]["metric"])), ax=list(panels), fraction=0.05, aspect=24, pad=0.02,
        shrink=0.82, ticks=[0, 0.25, 0.5, 0.75, 1],
    )  # fmt: skip
    bar.ax.set_yticklabels(["0 %", "25", "50", "75", "100 %"])
    bar.ax.tick_params(labelsize=8, colors=SOFT, length=0)
    bar.outline.set_visible(False)
    return figure


def _panel(axes: Axes, t: Transfer, side: float, scale: Normalize) -> None:
    """Draw one matrix; ``side`` is the width of a cell in inches."""
    matrix, shades = np.asarray(t["matrix"], dtype=float), colours(t["metric"])
    rows, columns = matrix.shape
    turned = max(map(len, t["targets"])) * 0.078 > side
    size = min(10.0, 22 * side)  # four digits and a dot fill 80 % of a cell
    mesh(
        axes, matrix, t["sources"], t["targets"], shades, scale, f.percent, size, min(8.5, 22 * side),
        rotation=40 if turned else 0, ha="right" if turned else "center",
        rotation_mode="anchor" if turned else "default",
    )  # fmt: skip
    axes.set_aspect("equal")
    if rows > 1 and columns > 1:  # the fused ensemble is the last row and column
        axes.plot([0, columns], [rows - 1, rows - 1], color=INK, linewidth=1.6, solid_capstyle="butt")
        axes.plot([columns - 1, columns - 1], [0, rows], color=INK, linewidth=1.6, solid_capstyle="butt")
    axes.set_title(textwrap.fill(t["ensemble"], int(side * columns / 0.1)), fontsize=11, fontweight="bold", color=INK)
    axes.set_xlabel("scored on", fontsize=9, color=SOFT)
    axes.set_ylabel("crafted on", fontsize=9, color=SOFT)
