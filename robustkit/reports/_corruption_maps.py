"""Natural corruptions as heatmaps: accuracy by corruption and severity."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from matplotlib import colormaps
from matplotlib.colors import Normalize
from matplotlib.figure import Figure

from robustkit.reports import _format as f
from robustkit.reports._corruptions import by_suite
from robustkit.reports._style import DPI, INK
from robustkit.schema import CorruptionResult, Results


def heatmaps(results: Results) -> Iterator[tuple[str, str, Figure]]:
    """Yield (file name, title, figure) for each suite: accuracy by corruption and severity, a panel per ensemble."""
    for suite, group in by_suite(results).items():
        yield f.slug("corruptions", suite), f"{suite}: accuracy (%) by corruption and severity", _heatmap(suite, group)


def _heatmap(suite: str, group: list[CorruptionResult]) -> Figure:
    names = list(dict.fromkeys(level["corruption"] for r in group for level in r["levels"]))
    severities = sorted({level["severity"] for r in group for level in r["levels"]})
    width = max(2.2, 0.6 * len(severities))
    figure = Figure(
        figsize=(width * len(group) + 2.4, 0.32 * len(names) + 1.3), layout="constrained", facecolor="white", dpi=DPI
    )
    shades, scale = colormaps["YlGnBu_r"], Normalize(0.0, 1.0)
    for axes, r in zip(figure.subplots(1, len(group), squeeze=False, sharey=True)[0], group, strict=True):
        values = np.full((len(names), len(severities)), np.nan)
        for level in r["levels"]:
            values[names.index(level["corruption"]), severities.index(level["severity"])] = level["accuracy"]
        axes.pcolormesh(np.ma.masked_invalid(values), cmap=shades, norm=scale, edgecolor="white", linewidth=1.0)
        for (row, column), value in np.ndenumerate(values):
            if not np.isnan(value):
                ink = "white" if value < 0.55 else INK
                axes.text(column + 0.5, row + 0.5, f.percent(value), ha="center", va="center", fontsize=8, color=ink)
        axes.set_xticks(np.arange(len(severities)) + 0.5, [str(s) for s in severities])
        axes.set_yticks(np.arange(len(names)) + 0.5, [name.replace("_", " ") for name in names])
        axes.set_ylim(len(names), 0)
        axes.tick_params(labelsize=8, colors=INK, length=0)
        axes.set_title(f"{r['ensemble']}\nclean {f.percent(r['clean_accuracy'])}", fontsize=9, color=INK)
        for side in axes.spines.values():
            side.set_visible(False)
    figure.suptitle(f"{suite}: accuracy (%) by severity", fontsize=10, color=INK)
    return figure
