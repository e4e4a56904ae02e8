"""Accuracy against distortion: what minimum-norm attacks found."""

from __future__ import annotations

from typing import TYPE_CHECKING

from robustkit.records.schema import Results
from robustkit.reports._labels import ordered
from robustkit.reports._style import DPI, GRID, INK, PALETTE, SOFT, bare

if TYPE_CHECKING:  # half a second, which a page without figures does not need
    from matplotlib.figure import Figure

_DASHES = ("-", "--", ":", "-.")


def distortion(results: Results) -> Figure:
    """Draw a panel per norm: colour = ensemble, line style = attack; a dot marks the median distance."""
    from matplotlib.figure import Figure

    runs = results["minimum_norm"]
    norms = sorted({run["norm"] for run in runs})
    colours = {e["id"]: PALETTE[at % len(PALETTE)] for at, e in enumerate(ordered(results))}
    attacks = list(dict.fromkeys((run["attack"], run["targeted"]) for run in runs))
    figure = Figure(figsize=(5.0 * len(norms), 4.0), layout="constrained", facecolor="white", dpi=DPI)
    panels = figure.subplots(1, len(norms), squeeze=False, sharey=True)[0]
    for norm, axes in zip(norms, panels, strict=True):
        for run in (run for run in runs if run["norm"] == norm):
            style = _DASHES[attacks.index((run["attack"], run["targeted"])) % len(_DASHES)]
            colour = colours.get(run["ensemble"], INK)
            name = f"{run['ensemble']}, {run['attack']}" + (", targeted" if run["targeted"] else "")
            share = [100 * a for a in run["accuracy"]]
            axes.step(run["eps"], share, where="post", color=colour, linestyle=style, linewidth=1.6, label=name)
            if run["median"] is not None:
                axes.plot(run["median"], 50, "o", color=colour, markersize=5)
        bare(axes)
        axes.grid(axis="y", color=GRID, linewidth=0.8)
        axes.set_ylim(-2, 102)
        axes.set_xlim(left=0)
        axes.set_xlabel(f"distortion ({norm})", fontsize=10, color=INK)
        axes.tick_params(labelsize=9, colors=SOFT, length=0)
        axes.legend(frameon=False, fontsize=9, labelcolor=INK)
    panels[0].set_ylabel("accuracy (%)", fontsize=10, color=INK)
    return figure
