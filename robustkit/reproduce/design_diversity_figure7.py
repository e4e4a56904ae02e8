"""Figure 7 of the design-diversity paper."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from matplotlib.figure import Figure

from robustkit.records.schema_members import PoolSet
from robustkit.reports._drawing import Drawing
from robustkit.reports._style import DPI, INK, PALETTE
from robustkit.reproduce import _design_diversity as paper
from robustkit.reproduce import reproduction
from robustkit.reproduce._lab import Lab
from robustkit.reproduce._parts import Claim, Outcome

ROWS = (paper.ATTRIBUTION, paper.DISAGREEMENT, paper.ACCURACY)


@reproduction(
    "design-diversity-figure7",
    title="Design diversity, Figure 7: gain against three metrics on natural corruptions",
    source="Rosales et al. 2023, Exploring Resiliency to Natural Image Corruptions, Figure 7, section 4.2 and A.2",
    datasets=("imagenet",),
    defenses=("baseline",),
    attacks=(),
)
def design_diversity_figure7(lab: Lab) -> Outcome:
    """Gain of all triples under averaging on four corruptions: attribution, disagreement, accuracy of the members."""
    found = paper.heterogeneous(lab, "pool-corruptions", corruptions=paper.SUITE)
    lab.note("validation sets", "clean, ImageNetV2 and four corruptions", "clean and four corruptions")
    rule, corrupted = paper.AVERAGING, found["sets"][1:]
    by = {measure: [paper.correlation(one, rule, measure) or 0.0 for one in corrupted] for measure in ROWS}
    better = [a > d for a, d in zip(by[paper.ATTRIBUTION], by[paper.DISAGREEMENT], strict=True)]
    stronger = [c > a for c, a in zip(by[paper.ACCURACY], by[paper.ATTRIBUTION], strict=True)]
    claims = [
        Claim("attribution diversity is better correlated with the gain than disagreement",
              f"higher r on {sum(better)} of {len(better)} corruptions", all(better)),
        Claim("the average accuracy of the members is more strongly correlated with the gain in corruptions",
              f"higher r than attribution diversity on {sum(stronger)} of {len(stronger)} corruptions", all(stronger)),
    ]  # fmt: skip
    rows = [row for one in found["sets"] for row in paper.correlation_rows(one, rule, (*ROWS, paper.NORMALISED))]
    alt = "Gain against each metric on each validation set, with trend lines."
    return Outcome(
        rows, claims, [Drawing("trends", alt, trends(found["sets"]), "scatter")], decimals=2, note=paper.PICTURE
    )


def trends(sets: Sequence[PoolSet]) -> Figure:
    """Draw a row for each metric, a column for each validation set, with a least-squares line."""
    size = (2.3 * len(sets) + 0.6, 2.0 * len(ROWS))
    figure = Figure(figsize=size, layout="constrained", facecolor="white", dpi=DPI)
    panels = figure.subplots(len(ROWS), len(sets), squeeze=False)
    for row, measure in zip(panels, ROWS, strict=True):
        for axes, one in zip(row, sets, strict=True):
            x, y = paper.scaled(one["measures"][measure]), paper.gains(one, paper.AVERAGING)
            there = np.isfinite(x)
            axes.scatter(x, y, s=5, color=PALETTE[0], alpha=0.5, linewidths=0, rasterized=True)
            if there.sum() > 2 and np.ptp(x[there]) > 0:
                axes.plot([0, 1], np.polyval(np.polyfit(x[there], y[there], 1), [0, 1]), color=PALETTE[1])
            paper.dressed(axes)
        row[0].set_ylabel(paper.TITLES[measure], fontsize=7, color=INK)
    for axes, one in zip(panels[0], sets, strict=True):
        axes.set_title(one["name"].replace("_", " "), fontsize=8, color=INK)
    return figure
