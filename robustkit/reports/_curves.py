"""Robust accuracy against eps."""

from __future__ import annotations

import statistics
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from robustkit.functional.stats import wilson_of
from robustkit.records.schema import ORDER, Results, Verdict
from robustkit.reports._floors import PROVEN, Floor, floor_points
from robustkit.reports._format import eps_text
from robustkit.reports._labels import groups_of, labeller, ordered
from robustkit.reports._style import DPI, GRID, INK, PALETTE, SOFT, bare

if TYPE_CHECKING:  # half a second, which a page without figures does not need
    from matplotlib.artist import Artist
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure, SubFigure

WORST, HATCH = "worst case", "////"
Style = Literal["-"] | tuple[float, tuple[float, ...]]
Entries = dict[str, "list[tuple[Artist, str]]"]  # what a legend explains, by heading
_DASHES: tuple[Style, ...] = (
    (0, (5, 2)), (0, (1, 1.4)), (0, (7, 2, 1.2, 2)), "-", (0, (1, 3)), (0, (4, 1.5, 1, 1.5, 1, 1.5)), (0, (10, 4))
)  # fmt: skip
_FILL: dict[Verdict, tuple[str, bool]] = {
    "trusted": ("o", True), "unchecked": ("s", False), "suspect": ("o", False), "invalid": ("X", False)
}  # fmt: skip


@dataclass(frozen=True)
class Point:
    """One number on a curve."""

    eps: float
    share: float
    ci95: Sequence[float]
    verdict: Verdict | None = None


def curves(results: Results) -> Figure:
    """Draw a panel per norm: colour = ensemble, line style = attack, worst case thick, marker = verdict.

    Bands are Wilson 95 % intervals; in a study over seeds a curve is their mean, and its band one standard deviation
    to both sides. A curve starts at eps 0 with the clean accuracy if it has a number at the smallest
    eps; one that was run at larger budgets only is not extended to where nothing was measured. Where floors are
    certified, what lies between them and the ceiling of the same samples is hatched, with its share.
    """
    from matplotlib.figure import Figure

    found, clean, floors = curve_points(results), clean_points(results), floor_points(results)
    over_seeds = bool(groups_of(results))
    norms = sorted({norm for norm, _, _ in found}, key=lambda norm: (norm != "linf", norm))
    attacks = list(dict.fromkeys(attack for _, attack, _ in found if attack != WORST))
    dashes = {attack: _DASHES[at % len(_DASHES)] for at, attack in enumerate(attacks)}
    colours = {name: PALETTE[at % len(PALETTE)] for at, name in enumerate(clean)}
    verdicts = {p.verdict for key, points in found.items() if key[1] != WORST for p in points if p.verdict}
    parts = _legend_parts(colours, dashes, any(a == WORST for _, a, _ in found), verdicts, over_seeds, bool(floors))
    tall = max(4.2, sum(_height(part) for part in parts.values()))
    wide = 0.8 + 0.072 * max(len(text) for part in parts.values() for _, text in part)
    figure = Figure(figsize=(5.4 * len(norms) + wide, tall), layout="constrained", facecolor="white", dpi=DPI)
    left, right = figure.subfigures(1, 2, squeeze=False, width_ratios=(5.4 * len(norms), wide))[0]
    panels = left.subplots(1, len(norms), squeeze=False, sharey=True)[0]
    for norm, axes in zip(norms, panels, strict=True):
        here = {(attack, one): points for (other, attack, one), points in found.items() if other == norm}
        first = min(point.eps for points in here.values() for point in points)
        for (attack, one), points in here.items():
            start = [clean[one]] if points[0].eps <= first else []
            _curve(axes, [*start, *points], colours[one], None if attack == WORST else dashes[attack])
        for one in clean:
            if proven := floors.get((norm, one)):
                _floor(axes, proven, colours[one])
        _decorate(axes, sorted({p.eps for points in here.values() for p in points}), norm)
    panels[0].set_ylabel("accuracy (%)", fontsize=10, color=INK)
    _legend(right, parts, tall)
    return figure


def clean_points(results: Results) -> dict[str, Point]:
    """Return where each curve begins, the baseline's first."""
    n, groups = results["dataset"]["n"], groups_of(results)
    share = {e["id"]: e["accuracy"] for e in ordered(results)}
    if groups:
        return {name: _mean([Point(0.0, share[i], ()) for i in ids.values()]) for name, ids in groups.items()}
    return {one: Point(0.0, value, wilson_of(value, n)) for one, value in share.items()}


def _mean(points: Sequence[Point]) -> Point:
    """Return the mean over seeds of points at one eps, with a standard deviation to both sides, the worst verdict."""
    shares = [p.share for p in points]
    mean, spread = statistics.fmean(shares), statistics.stdev(shares)
    verdict = max((p.verdict for p in points if p.verdict), key=ORDER.index, default=None)
    return Point(points[0].eps, mean, (max(0.0, mean - spread), min(1.0, mean + spread)), verdict)


def curve_points(results: Results) -> dict[tuple[str, str, str], list[Point]]:
    """Return the points of every curve by (norm, attack, ensemble), the attacks first, the worst case on top."""
    label = labeller(results)
    known = {e["id"]: e["id"] for e in results["ensembles"]}
    seeds = groups_of(results)
    known |= {i: group for group, ids in seeds.items() for i in ids.values()}
    found = defaultdict[tuple[str, str, str], list[Point]](list)
    for e in results["evaluations"]:
        point = Point(e["eps"], e["robust_accuracy"], e["ci95"], e["verdict"])
        found[e["norm"], label(e), known.get(e["ensemble"], "")].append(point)
    for w in results["worst_case"]:
        point = Point(w["eps"], w["robust_accuracy"], w["ci95"], w.get("verdict"))
        found[w["norm"], WORST, known.get(w["ensemble"], "")].append(point)
    if seeds:
        found = defaultdict(list, {key: _over_seeds(points) for key, points in found.items()})
    return {key: sorted(points, key=lambda p: p.eps) for key, points in found.items() if key[2] and points}


def _over_seeds(points: Sequence[Point]) -> list[Point]:
    """Return a point for each eps that several seeds have one at."""
    by = defaultdict[float, list[Point]](list)
    for point in points:
        by[point.eps].append(point)
    return [_mean(same) for same in by.values() if len(same) > 1]


def _curve(axes: Axes, points: Sequence[Point], colour: str, style: Style | None) -> None:
    worst = style is None
    eps, share = [p.eps for p in points], [100 * p.share for p in points]
    low, high = [100 * p.ci95[0] for p in points], [100 * p.ci95[1] for p in points]
    axes.fill_between(eps, low, high, color=colour, alpha=0.18 if worst else 0.07, linewidth=0, zorder=1)
    if len(points) == 1:  # a band needs two
        axes.vlines(eps, low, high, color=colour, alpha=0.5, linewidth=1.3, zorder=2)
    axes.plot(
        eps, share, color=colour, linestyle=style or "-", linewidth=2.8 if worst else 1.3, zorder=4 if worst else 3
    )
    for p in points:
        if p.verdict and not worst:
            marker, filled = _FILL[p.verdict]
            axes.plot(
                p.eps, 100 * p.share, marker, color=colour, markerfacecolor=colour if filled else "white",
                markersize=7 if marker == "X" else 5, markeredgewidth=1.2, zorder=5,
            )  # fmt: skip


def _floor(axes: Axes, floors: Sequence[Floor], colour: str) -> None:
    eps, low, high = [p.eps for p in floors], [100 * p.low for p in floors], [100 * p.high for p in floors]
    axes.fill_between(eps, low, high, facecolor="none", edgecolor=colour, alpha=0.4, hatch=HATCH, linewidth=0, zorder=2)
    axes.plot(eps, low, color=colour, linestyle=":", linewidth=1.8, marker="^", markersize=5, zorder=4)
    for p in floors[1:]:
        axes.annotate(
            f"{p.unsettled} %", (p.eps, 50 * (p.low + p.high)), xytext=(-4, 0), textcoords="offset points", ha="right",
            va="center", fontsize=7, color=colour, zorder=6, bbox={"facecolor": "white", "linewidth": 0, "pad": 0.8},
        )  # fmt: skip


def _decorate(axes: Axes, eps: Sequence[float], norm: str) -> None:
    bare(axes)
    axes.grid(axis="y", color=GRID, linewidth=0.8)
    axes.set_axisbelow(True)
    axes.set_ylim(-2, 102)
    right = max(eps) * 1.04 or 1.0
    axes.set_xlim(-0.02 * right, right)
    ticks: list[float] = [0.0]
    for value in eps:  # labels nearer than that would touch
        if value - ticks[-1] > 0.09 * right:
            ticks.append(value)
    axes.set_xticks(ticks, [eps_text(value) for value in ticks])
    axes.set_xlabel(f"perturbation budget eps ({norm}); 0 = clean", fontsize=10, color=INK)
    axes.tick_params(labelsize=9, colors=SOFT, length=0)


def _legend_parts(
    colours: dict[str, str], dashes: dict[str, Style], worst: bool, verdicts: set[Verdict], over_seeds: bool,
    floors: bool,
) -> Entries:  # fmt: skip
    """Return what colour, line, marker and band mean, by heading."""
    from matplotlib.lines import Line2D
    from matplotlib.patches import Patch

    lines: list[tuple[Artist, str]] = [(Line2D([], [], color=INK, linewidth=2.8), WORST)] if worst else []
    lines += [(Line2D([], [], color=INK, linewidth=1.3, linestyle=d), _short(name)) for name, d in dashes.items()]
    marks: list[tuple[Artist, str]] = [
        (Line2D([], [], color=INK, linestyle="none", marker=marker, markersize=5 if marker == "o" else 7,
                markerfacecolor=INK if filled else "white"), verdict)
        for verdict, (marker, filled) in _FILL.items() if verdict in verdicts
    ]  # fmt: skip
    proven: list[tuple[Artist, str]] = [
        (Line2D([], [], color=INK, linewidth=1.8, linestyle=":", marker="^", markersize=5), PROVEN),
        (Patch(facecolor="white", edgecolor=SOFT, hatch=HATCH, linewidth=0), "settled by neither, and its share"),
    ]
    parts: Entries = {
        "Ensemble": [(Line2D([], [], color=colour, linewidth=4), _short(name)) for name, colour in colours.items()],
        "Attack": lines,
        "Verdict": marks,
        "Floor": proven if floors else [],
        "Band": [
            (
                Patch(color=INK, alpha=0.15, linewidth=0),
                "standard deviation over seeds" if over_seeds else "Wilson 95 % interval",
            )
        ],
    }
    return {title: part for title, part in parts.items() if part}


def _legend(figure: SubFigure, parts: Entries, tall: float) -> None:
    """Stack one legend per part, headings flush left, in a figure ``tall`` inches high."""
    from matplotlib.legend import Legend

    axes = figure.add_axes((0, 0, 1, 1))
    axes.set_axis_off()
    top = 1.0
    for title, part in parts.items():
        handles, texts = [handle for handle, _ in part], [text for _, text in part]
        legend = Legend(
            axes, handles, texts, title=title, loc="upper left", bbox_to_anchor=(0, top), alignment="left",
            frameon=False, fontsize=9, title_fontproperties={"weight": "bold", "size": 9}, handlelength=3,
            labelcolor=INK,
        )  # fmt: skip
        axes.add_artist(legend)
        top -= _height(part) / tall


def _height(part: Sequence[object]) -> float:
    return (13.5 * (len(part) + 1) + 10) / 72  # inches: lines of 9 points at 1.5, and a gap


def _short(name: str, longest: int = 34) -> str:
    """Return a name without its middle: names of one study often differ at the end only."""
    half = (longest - 3) // 2
    return name if len(name) <= longest else f"{name[:half]}...{name[-half:]}"
