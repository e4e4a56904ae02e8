"""Figure 10 of the design-diversity paper."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from matplotlib.figure import Figure

from robustkit.reports._drawing import Drawing
from robustkit.reports._style import DPI, INK, PALETTE, bare
from robustkit.reproduce import _design_diversity as paper
from robustkit.reproduce import reproduction
from robustkit.reproduce._grid import percent_interval
from robustkit.reproduce._lab import Lab
from robustkit.reproduce._parts import Claim, Column, Comparison, Outcome


def _gncl(name: str, consensus: str, fusion: str, masked: bool = False) -> Column:
    return Column(name, "gncl", {"gncl.lam": 0.2, "gncl.consensus": consensus, "gncl.masked": masked}, fusion)


COLUMNS = (
    Column("independent", "baseline", fusion="mean-logit"),
    _gncl("GNCL average", "mean", "mean-logit"),
    _gncl("GNCL median", "median", "median"),
    _gncl("GNCL geometric mean", "geometric-mean", "geometric-mean"),
    _gncl("GNCL majority vote", "majority", "majority"),
    _gncl("GNCL masked", "mean", "mean-logit", masked=True),
    Column("balanced", "balanced", {"balanced.lam": 0.2}, "mean-logit"),
)


@reproduction(
    "design-diversity-figure10",
    title="Design diversity, Figure 10: enforced diversity against natural corruptions",
    source="Rosales et al. 2023, Exploring Resiliency to Natural Image Corruptions, Figure 10 and section 4.3",
    datasets=("imagenet",),
    defenses=("baseline", "gncl", "balanced"),
    attacks=(),
)
def design_diversity_figure10(lab: Lab) -> Outcome:
    """Accuracy on clean images and four corruptions: independent members, GNCL in five ways, the balanced loss."""
    lab.train(COLUMNS, paper.ncl_recipe())
    results = lab.evaluate("corruptions", COLUMNS, paper.IMAGES, suites="corruptions", corruptions=paper.SUITE)
    by = {r["ensemble"]: r for r in results["corruptions"]}
    found: dict[str, dict[str, float]] = {}
    for column in COLUMNS:
        r = by[lab.name(column)]
        levels = {level["corruption"]: level["accuracy"] for level in r["levels"]}
        found[column.name] = {"clean": r["clean_accuracy"], **levels}
    sets, n = list(found["balanced"]), results["dataset"]["n"]
    rows = [
        Comparison(name, column, 100 * values[name], ci95=percent_interval(values[name], n))
        for name in sets
        for column, values in found.items()
    ]
    alt = "Accuracy of each ensemble on clean images and on each corruption."
    note = "The paper's accuracies are only in its picture."
    return Outcome(rows, claims(found), [Drawing("accuracy", alt, bars(found), "bars")], decimals=1, note=note)


def claims(found: Mapping[str, Mapping[str, float]]) -> list[Claim]:
    """Return what the paper says of its picture, beside accuracies by ensemble and set."""
    corrupted = [name for name in found["balanced"] if name != "clean"]
    best = [found["balanced"][s] > max(v[s] for c, v in found.items() if c != "balanced") for s in corrupted]
    mean = {column: float(np.mean([values[s] for s in corrupted])) for column, values in found.items()}
    enforced = {column: value for column, value in mean.items() if column.startswith("GNCL")}
    top = max(enforced, key=lambda column: enforced[column])
    return [
        Claim(
            "the balanced loss provides a significant advantage in 3 out of 4 natural corruptions",
            f"most accurate of the seven on {sum(best)} of {len(best)}; mean over them {100 * mean['balanced']:.1f} %, "
            f"independent {100 * mean['independent']:.1f} %",
            sum(best) >= 3,
        ),
        Claim(
            "explicit enforcement of prediction diversity does not result in improved resilience",
            f"mean accuracy over the corruptions {100 * mean['independent']:.1f} % independent, with GNCL at most "
            f"{100 * enforced[top]:.1f} % ({top})",
            enforced[top] <= mean["independent"],
        ),
    ]


def bars(found: Mapping[str, Mapping[str, float]]) -> Figure:
    """Draw a group of bars for each validation set, a bar for each ensemble."""
    figure = Figure(figsize=(9.0, 3.8), layout="constrained", facecolor="white", dpi=DPI)
    axes = figure.subplots()
    sets = list(found["balanced"])
    for at, (column, values) in enumerate(found.items()):
        places = np.arange(len(sets)) + (at - (len(found) - 1) / 2) * 0.11
        colour = PALETTE[at % len(PALETTE)]
        axes.bar(places, [100 * values[s] for s in sets], width=0.1, color=colour, label=column)
    axes.set_xticks(range(len(sets)), [s.replace("_", " ") for s in sets], fontsize=8)
    axes.set_ylabel("accuracy (%)", fontsize=9, color=INK)
    axes.legend(frameon=False, fontsize=7, ncols=4, loc="lower center", bbox_to_anchor=(0.5, 1.0))
    bare(axes)
    return figure
