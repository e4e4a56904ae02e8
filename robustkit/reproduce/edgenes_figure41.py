"""Figure 4.1 of the EdgeNES paper."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib.figure import Figure
from scipy.integrate import trapezoid
from scipy.stats import ttest_ind

from robustkit.reports._drawing import Drawing
from robustkit.reports._style import DPI, INK, PALETTE, SOFT, bare
from robustkit.reproduce import reproduction
from robustkit.reproduce._lab import Lab
from robustkit.reproduce._parts import Claim, Comparison, Outcome
from robustkit.reproduce._search import Runs, Searches, compared
from robustkit.search._hypernetwork import relative_speed

MEMBERS = 3
BUDGETS = {"paper": (60, 90, 120, 150), "small": (6, 12)}  # epochs of all searches together
SHARE = 0.7  # of the hypernetwork's epochs and the optimum's
METHODS = {"EdgeNES": "edgenes", "DartsEns": "darts-ensemble"}
P_VALUE = 0.0287  # of the paper's t-test between the areas under the curves
Curves = Mapping[str, Sequence[Sequence[float]]]  # by method and run: the accuracy of each budget


@reproduction(
    "edgenes-figure41",
    title="EdgeNES, Figure 4.1: ensemble accuracy against epochs of search",
    source="EdgeNES, Figure 4.1 and section 4.2",
    datasets=("cifar100",),
    defenses=("baseline",),
    attacks=(),
    searches=("edgenes",),
)
def edgenes_figure41(lab: Lab) -> Outcome:
    """Accuracy of EdgeNES and of an ensemble of DARTS by the epochs that were searched, all searches together."""
    runs = Searches(lab, Runs(None, 2))
    budgets = BUDGETS[lab.ask.scale]
    curves: dict[str, list[list[float]]] = {name: [] for name in METHODS}
    for seed in runs.seeds:
        for name, method in METHODS.items():
            curves[name].append([100 * accuracy(runs, method, budget, seed) for budget in budgets])
    comparisons = [
        compared(f"{budget} epochs", name, [curve[at] for curve in curves[name]], None)
        for at, budget in enumerate(budgets)
        for name in METHODS
    ]
    areas = {name: [area(budgets, curve) for curve in found] for name, found in curves.items()}
    comparisons += [compared("mean over epochs (area under the curve)", name, areas[name], None) for name in METHODS]
    test = ttest_ind(*areas.values())
    p = float(test.pvalue)
    comparisons.append(Comparison("p of a t-test between the areas", "both", p, P_VALUE, ""))
    ours, repeated = (float(np.mean(areas[name])) for name in METHODS)
    claims = [
        Claim(
            "the method yields a statistically significantly better result",
            f"mean area {ours:.2f} against {repeated:.2f} %, p {p:.3f}, {len(runs.seeds)} runs each",
            ours > repeated and p < 0.05,
        ),
        Claim(
            "by Theorem 1 it should theoretically run faster than DartsEns",
            f"eq. 2.5 gives {relative_speed(MEMBERS, runs.space.length):.2f} for lambda from 1 to Lambda; for lambda "
            f"from 0, as it is trained, the same derivation gives {MEMBERS / 4:.2f}",
            MEMBERS / 4 > 1,
        ),
    ]  # fmt: skip
    drawing = Drawing("accuracy-by-epochs", "Ensemble accuracy by epochs of search.", lines(budgets, curves), "lines")
    note = (
        f"Every budget is a search of its own: DartsEns divides its epochs between {MEMBERS} searches, EdgeNES between "
        "the optimum and the hypernetwork as 10 to 7. The paper's accuracies are only in its picture."
    )
    return Outcome(comparisons, claims, [drawing], decimals=2, note=note)


def accuracy(runs: Searches, method: str, budget: int, seed: int) -> float:
    """Return the test accuracy of an ensemble that so many epochs of search found."""
    first = round(budget / (1 + SHARE)) if method == "edgenes" else budget // MEMBERS
    own = {"hyper_share": (budget - first) / first, "candidates": MEMBERS} if method == "edgenes" else {}
    record = runs.searched(method, MEMBERS, seed, f"{method}-{seed}-{budget}", epochs=first, **own)
    return float(record["metrics"]["test_accuracy"])


def area(budgets: Sequence[int], curve: Sequence[float]) -> float:
    """Return the area under a curve by trapezia, over the width."""
    return float(trapezoid(curve, budgets) / (budgets[-1] - budgets[0]))


def lines(budgets: Sequence[int], curves: Curves) -> Figure:
    """Draw the mean accuracy of each method by epochs, and every run."""
    figure = Figure(figsize=(6.0, 4.0), layout="constrained", facecolor="white", dpi=DPI)
    axes = figure.subplots()
    for (name, found), colour in zip(curves.items(), PALETTE, strict=False):
        axes.plot(budgets, np.mean(found, axis=0), color=colour, marker="o", label=name)
        for curve in found:
            axes.plot(budgets, curve, color=colour, linewidth=0.6, alpha=0.5)
    axes.set_xlabel("epochs of search, all searches together", fontsize=10, color=INK)
    axes.set_ylabel("test accuracy, %", fontsize=10, color=INK)
    axes.tick_params(labelsize=8, colors=SOFT)
    axes.legend(frameon=False, fontsize=9)
    bare(axes)
    return figure
