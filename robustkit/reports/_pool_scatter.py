"""Gain of the subsets of a pool against each measure of diversity (design-diversity paper, Figures 5 to 8)."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from robustkit.records.schema_members import PoolSet
from robustkit.reports._style import DPI, GRID, INK, PALETTE, SOFT, bare

if TYPE_CHECKING:  # half a second, which a page without figures does not need
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

RULES = {"mean-logit": PALETTE[0], "majority": PALETTE[1]}  # the paper's averaging and voting
COLUMNS = 5


def scatter(one: PoolSet) -> Figure:
    """Return a panel for each measure that is defined, a point for each subset and consensus."""
    from matplotlib.figure import Figure

    names = [name for name, values in one["measures"].items() if any(v is not None for v in values)]
    rows = math.ceil(len(names) / COLUMNS)
    width, height = 2.3 * COLUMNS, 2.1 * rows + 0.6
    figure = Figure(figsize=(width, height), facecolor="white", dpi=DPI)
    # Placed by hand: matplotlib's own layout takes longer than all of the drawing.
    figure.subplots_adjust(0.55 / width, 0.3 / height, 1 - 0.1 / width, 1 - 0.8 / height, wspace=0.12, hspace=0.5)
    panels = figure.subplots(rows, COLUMNS, squeeze=False, sharey=True).ravel()
    for axes, name in zip(panels, names, strict=False):
        _panel(axes, one, name)
    for axes in panels[len(names) :]:
        axes.set_visible(False)
    for axes in panels[::COLUMNS]:
        axes.set_ylabel("gain (points)", fontsize=8, color=INK)
    figure.legend(*panels[0].get_legend_handles_labels(), loc="upper right", ncols=2, frameon=False, fontsize=8)
    order = ", ".join(RULES)
    title = f"{one['name']}: gain over the best member, n = {one['n']}; r: {order}"
    figure.text(0.55 / width, 1 - 0.25 / height, title, fontsize=10, color=INK, va="center")
    return figure


def _panel(axes: Axes, one: PoolSet, name: str) -> None:
    found = {c["rule"]: c["pearson"] for c in one["correlations"] if c["measure"] == name}
    gains = {rule["rule"]: rule["gain"] for rule in one["rules"]}
    for rule, colour in RULES.items():
        there = [(x, 100 * y) for x, y in zip(one["measures"][name], gains[rule], strict=True) if x is not None]
        across, up = [x for x, _ in there], [y for _, y in there]
        # As pixels: thousands of points would make a page of vectors too large to open.
        axes.scatter(across, up, s=7, c=colour, alpha=0.5, linewidths=0, label=rule, rasterized=True)
    r = ", ".join("-" if found[rule] is None else f"{found[rule]:+.2f}" for rule in RULES)
    axes.set_title(f"{name.replace('_', ' ')}\nr = {r}", fontsize=8, color=INK)
    axes.axhline(0.0, color=SOFT, linewidth=0.8, linestyle="--")
    axes.grid(color=GRID, linewidth=0.6)
    axes.set_axisbelow(True)
    axes.tick_params(labelsize=7, colors=INK, length=0)
    bare(axes)
