"""Natural corruptions as heatmaps: accuracy by corruption and severity."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

import numpy as np

from robustkit.records.schema import CorruptionResult, Results
from robustkit.reports import _format as f
from robustkit.reports._corruptions import by_suite
from robustkit.reports._mesh import mesh
from robustkit.reports._style import DPI, INK

if TYPE_CHECKING:  # half a second, which a page without figures does not need
    from matplotlib.figure import Figure


def heatmaps(results: Results) -> Iterator[tuple[str, str, Figure]]:
    """Yield (file name, title, figure) for each suite: accuracy by corruption and severity, a panel per ensemble."""
    for suite, group in by_suite(results).items():
        yield f.slug("corruptions", suite), f"{suite}: accuracy (%) by corruption and severity", _heatmap(suite, group)


def _heatmap(suite: str, group: list[CorruptionResult]) -> Figure:
    from matplotlib import colormaps
    from matplotlib.colors import Normalize
    from matplotlib.figure import Figure

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
        mesh(axes, values, [name.replace("_", " ") for name in names], severities, shades, scale, f.percent)
        axes.set_title(f"{r['ensemble']}\nclean {f.percent(r['clean_accuracy'])}", fontsize=9, color=INK)
    figure.suptitle(f"{suite}: accuracy (%) by severity", fontsize=10, color=INK)
    return figure
