"""Diversity as figures: pair matrices, distributions of cosines, CKA maps. All that they show is in results.json."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from robustkit.records.schema_members import CosineDistribution, DiversityResult, LayerSimilarity
from robustkit.reports import _format as f
from robustkit.reports._mesh import mesh
from robustkit.reports._style import DPI, INK, PALETTE, SOFT, bare

if TYPE_CHECKING:  # half a second, which a page without figures does not need
    from matplotlib.figure import Figure

SHADES = "YlGnBu"
SEPARATE = 3  # pairs of members that have a CKA map each; of more it is their mean, where layers correspond
MOST_PAIRS = 6  # maps where they do not
MAPS = {"gradcam": "GradCAM", "saliency": "saliency"}

Floats = npt.NDArray[np.floating[Any]]


def pair_matrices(found: Sequence[DiversityResult], names: Mapping[str, tuple[str, str, str]]) -> Figure:
    """Draw the pair matrices: a row per ensemble, a column per measure, one colour scale per column, no diagonal."""
    from matplotlib import colormaps
    from matplotlib.colors import Normalize
    from matplotlib.figure import Figure

    found = [r for r in found if r["pairwise"]]
    most = max(r["members"] for r in found)
    side = min(4.0, max(1.5, 0.42 * most))  # inches of a matrix
    size = min(8.0, 20 * side / most)
    figure = Figure(
        figsize=((side + 0.35) * len(names), (side + 0.55) * len(found) + 0.2), layout="constrained",
        facecolor="white", dpi=DPI,
    )  # fmt: skip
    panels = figure.subplots(len(found), len(names), squeeze=False)
    for at, (key, (name, unit, way)) in enumerate(names.items()):
        matrices = [pair_matrix(r, key) for r in found]
        scale = Normalize(*value_range(matrices))
        text = f.percent if unit == "%" else "{:.2f}".format
        for axes, r, matrix in zip(panels[:, at], found, matrices, strict=True):
            mesh(axes, matrix, range(len(matrix)), range(len(matrix)), colormaps[SHADES], scale, text, size, 7)
            axes.set_aspect("equal")
            if axes in panels[0]:
                axes.set_title(f"{name}{f' [{unit}]' if unit else ''}\n{way}: more diverse", fontsize=8, color=INK)
            if at == 0:
                axes.set_ylabel(r["ensemble"], fontsize=9, fontweight="bold", color=INK)
    return figure


def cosines(found: Sequence[DiversityResult]) -> Figure:
    """Draw the distributions of the cosines between members' maps, a curve per ensemble (SDDE paper, Figure 5)."""
    from matplotlib.figure import Figure

    found = [r for r in found if r["attributions"]]
    there = distributions(found)
    colours = {r["ensemble"]: PALETTE[at % len(PALETTE)] for at, r in enumerate(found)}
    figure = Figure(figsize=(4.6 * max(1, len(there)), 3.4), layout="constrained", facecolor="white", dpi=DPI)
    for axes, (maps, group) in zip(
        figure.subplots(1, max(1, len(there)), squeeze=False)[0], there.items(), strict=False
    ):
        lowest = min(c["edges"][np.flatnonzero(c["counts"])[0]] for _, c in group if sum(c["counts"]))
        for ensemble, c in group:
            if c["mean"] is not None:
                shares = np.array(c["counts"]) / sum(c["counts"])
                label = f"{ensemble}, mean {c['mean']:.2f}"
                axes.stairs(shares, c["edges"], color=colours[ensemble], linewidth=1.6, label=label)
                axes.stairs(shares, c["edges"], color=colours[ensemble], alpha=0.15, fill=True)
                axes.axvline(c["mean"], color=colours[ensemble], linewidth=1.0, linestyle=":")
        axes.set_xlim(min(lowest, 0.0), 1.0)
        axes.set_xlabel(f"cosine between two members' {MAPS[maps]} maps", fontsize=9, color=INK)
        axes.set_ylabel("share of images and pairs", fontsize=9, color=INK)
        axes.tick_params(labelsize=8, colors=SOFT)
        axes.legend(frameon=False, fontsize=8, loc="lower left", bbox_to_anchor=(0, 1.0))
        bare(axes)
    return figure


def layers(r: DiversityResult) -> Figure:
    """Draw the linear CKA between layers: a map per pair of members, or the mean map of many pairs."""
    from matplotlib import colormaps
    from matplotlib.cm import ScalarMappable
    from matplotlib.colors import Normalize
    from matplotlib.figure import Figure

    panels, left = layer_maps(r)
    names = [layer for pair in r["layers"] for layer in pair["layers"]]
    side = max(2.4, 0.2 * max(len(own) for own in names))
    figure = Figure(
        figsize=((side + 1.5) * len(panels) + 0.8, side + 1.7), layout="constrained", facecolor="white", dpi=DPI
    )
    scale, shades = Normalize(0.0, 1.0), colormaps[SHADES]
    every = figure.subplots(1, len(panels), squeeze=False)[0]
    for axes, (title, rows, columns, matrix) in zip(every, panels, strict=True):
        mesh(axes, matrix, short(rows), short(columns), shades, scale, labels=7, rotation=90)
        axes.set_title(title, fontsize=9, color=INK)
    bar = figure.colorbar(ScalarMappable(scale, shades), ax=list(every), fraction=0.05, pad=0.02)
    bar.ax.tick_params(labelsize=8, colors=SOFT, length=0)
    bar.outline.set_visible(False)
    more = f" ({left} further pairs are in results.json)" if left else ""
    figure.suptitle(f"{r['ensemble']}: linear CKA between layers{more}", fontsize=10, color=INK)
    return figure


def distributions(found: Sequence[DiversityResult]) -> dict[str, list[tuple[str, CosineDistribution]]]:
    """Return the distributions of cosines of all ensembles by what the maps are, where any cosine was counted."""
    by = {maps: [(r["ensemble"], c) for r in found for c in _cosines(r) if c["maps"] == maps] for maps in MAPS}
    return {maps: group for maps, group in by.items() if any(sum(c["counts"]) for _, c in group)}


def layer_maps(r: DiversityResult) -> tuple[list[tuple[str, list[str], list[str], Floats]], int]:
    """Return (title, rows, columns, CKA) of each pair of members, or of their mean; and how many pairs are left out."""
    panels = [_layer_map(pair) for pair in r["layers"]]
    names = [layer for pair in r["layers"] for layer in pair["layers"]]
    left = 0
    if len(panels) > SEPARATE and all(own == names[0] for own in names):
        maps = np.array([matrix for _, _, _, matrix in panels])
        mean = np.ma.masked_invalid(maps).mean(0).filled(np.nan)
        panels = [(f"mean over {len(panels)} pairs", names[0], names[0], mean)]
    elif len(panels) > SEPARATE:
        left = max(0, len(panels) - MOST_PAIRS)
        panels = panels[:MOST_PAIRS]
    return panels, left


def _cosines(r: DiversityResult) -> list[CosineDistribution]:
    return r["attributions"]["cosines"] if r["attributions"] else []


def _layer_map(pair: LayerSimilarity) -> tuple[str, list[str], list[str], Floats]:
    i, j = pair["members"]
    rows, columns = pair["layers"]
    return f"member {i} (rows), member {j}", rows, columns, np.array(pair["matrix"], dtype=float)


def pair_matrix(r: DiversityResult, name: str) -> Floats:
    """Return a pair matrix without its diagonal."""
    matrix = next(np.array(m["matrix"], dtype=float) for m in r["pairwise"] if m["name"] == name)
    np.fill_diagonal(matrix, np.nan)
    return matrix


def value_range(matrices: Sequence[Floats]) -> tuple[float, float]:
    """Return the values that the colours of one measure stand for: from 0, or below, to its largest."""
    values = np.concatenate([m[np.isfinite(m)] for m in matrices])
    if not len(values):
        return 0.0, 1.0
    return min(0.0, float(values.min())), max(float(values.max()), 1e-9)


def short(names: Sequence[str]) -> list[str]:
    """Return layer names without what all of them begin with, like ``network.``."""
    head = names[0].split(".")[0] + "." if names else ""
    common = len(names) > 1 and all(name.startswith(head) for name in names)
    return [name[len(head) :] for name in names] if common else list(names)
