"""Figure 3.2 of the EdgeNES paper."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib.figure import Figure

from robustkit.reports._drawing import Drawing
from robustkit.reports._style import DPI, INK, PALETTE, SOFT, bare
from robustkit.reproduce import reproduction
from robustkit.reproduce._lab import Lab
from robustkit.reproduce._parts import Claim, Outcome
from robustkit.reproduce._search import Runs, Searches, compared

EACH = 2  # architectures that are drawn and trained at each lambda of a run


@reproduction(
    "edgenes-figure32",
    title="EdgeNES, Figure 3.2: accuracy of an architecture against lambda",
    source="EdgeNES, Figure 3.2 and section 3.2",
    datasets=("cifar100",),
    defenses=("baseline",),
    attacks=(),
    searches=("edgenes",),
)
def edgenes_figure32(lab: Lab) -> Outcome:
    """Accuracy of architectures drawn at each lambda and trained from scratch."""
    runs = Searches(lab, Runs(None, 2))
    found: dict[float, list[float]] = {float(lam): [] for lam in range(runs.space.length + 1)}
    for seed in runs.seeds:
        around = runs.around(seed)
        for lam, values in found.items():
            values += [runs.accuracy_at(around, lam, seed, draw) for draw in range(EACH)]
    comparisons = [compared(f"lambda {lam:g}", "drawn architectures", values, None) for lam, values in found.items()]
    slope = float(
        np.polyfit(np.repeat(list(found), EACH * len(runs.seeds)), np.concatenate(list(found.values())), 1)[0]
    )
    claim = Claim(
        "the further an architecture is from the optimal one, the worse it performs",
        f"accuracy goes {'up' if slope > 0 else 'down'} by {abs(slope):.2f} points for each shared edge", slope > 0,
    )  # fmt: skip
    drawing = Drawing("accuracy-by-lambda", "Accuracy of drawn architectures against lambda.", points(found), "lines")
    note = f"{EACH * len(runs.seeds)} architectures at each lambda. The paper's numbers are only in its picture."
    return Outcome(comparisons, [claim], [drawing], decimals=1, note=note)


def points(found: Mapping[float, Sequence[float]]) -> Figure:
    """Draw the accuracy of each architecture against lambda, and their means."""
    figure = Figure(figsize=(6.0, 4.0), layout="constrained", facecolor="white", dpi=DPI)
    axes = figure.subplots()
    for lam, values in found.items():
        axes.scatter([lam] * len(values), values, s=14, color=PALETTE[0], alpha=0.5, linewidths=0)
    axes.plot(list(found), [np.mean(values) for values in found.values()], color=PALETTE[1], marker="o")
    axes.set_xlabel("lambda", fontsize=10, color=INK)
    axes.set_ylabel("test accuracy, %", fontsize=10, color=INK)
    axes.tick_params(labelsize=8, colors=SOFT)
    bare(axes)
    return figure
