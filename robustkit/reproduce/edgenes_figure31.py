"""Figure 3.1 of the EdgeNES paper."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from matplotlib.figure import Figure

from robustkit.reports._drawing import Drawing
from robustkit.reports._style import DPI, INK, PALETTE, SOFT, bare
from robustkit.reproduce import reproduction
from robustkit.reproduce._lab import Lab
from robustkit.reproduce._parts import Claim, Comparison, Outcome
from robustkit.reproduce._search import PAPER, Runs, Searches

SAMPLES, HALF = (
    1000,
    0.5,
)  # architectures that are drawn at each lambda; an edge's half, by which their mean may miss it
PLAIN, MEAN = "one lambda a step", "a mean over lambdas"  # the paper's form of the regulariser, and ours
Measured = Mapping[str, list[tuple[float, float]]]  # by variant: mean and deviation of the shared edges at each lambda


@reproduction(
    "edgenes-figure31",
    title="EdgeNES, Figure 3.1: shared edges of drawn architectures against lambda",
    source="EdgeNES, Figure 3.1 and section 3.1",
    datasets=("cifar100",),
    defenses=("baseline",),
    attacks=(),
    searches=("edgenes",),
)
def edgenes_figure31(lab: Lab) -> Outcome:
    """Shared edges of the architectures drawn at each lambda, with and without the margin of training lambdas."""
    runs = Searches(lab, Runs(None, 1))
    # The paper's form has the paper's epochs, whatever the scale: with fewer it does not follow lambda.
    epochs = PAPER["epochs"] * PAPER["hyper_share"]
    plain = {"draws": 1, "hyper_lr": PAPER["hyper_lr"], "hyper_share": epochs / runs.params["epochs"]}
    plain = {name: value for name, value in plain.items() if name not in lab.ask.settings.get("edgenes", {})}
    found: dict[str, list[tuple[float, float]]] = {}
    comparisons = []
    for name, changes in ((PLAIN, plain), (MEAN, {})):
        for margin in (PAPER["margin"], 0.0):
            variant = name + (f", margin {margin:g}" if margin else ", no margin")
            found[variant] = measured(runs, **changes, margin=margin)
    for lam in range(runs.space.length + 1):
        for variant, values in found.items():
            mean, deviation = values[lam]
            comparisons.append(Comparison(f"lambda {lam}", variant, mean, None, "edges", own_spread=deviation))
    says, fails = (
        "the hypernetwork samples architectures with the corresponding number of edges",
        "without the margin it does not sample architectures with 0 and Lambda edges",
    )
    claims = [
        claim(f"{text} ({form})", found, form, margin)
        for form in (PLAIN, MEAN)
        for text, margin in ((says, True), (fails, False))
    ]
    drawing = Drawing("shared-edges", "Shared edges of drawn architectures against lambda.", lines(found), "lines")
    note = (
        f"{SAMPLES} architectures are drawn at each lambda, and the deviation is over them. The paper's numbers are "
        f"only in its picture, where they follow lambda. To follow is here to miss lambda by less than {HALF}."
    )
    return Outcome(comparisons, claims, [drawing], decimals=2, note=note)


def measured(runs: Searches, **changes: Any) -> list[tuple[float, float]]:
    """Return mean and standard deviation of the shared edges drawn at each whole lambda, over all runs."""
    drawn = []
    for seed in runs.seeds:
        around = runs.around(seed, **changes)
        generator = torch.Generator().manual_seed(seed)
        drawn.append([around.sampled(float(lam), SAMPLES, generator) for lam in range(runs.space.length + 1)])
    joined = [torch.cat(parts) for parts in zip(*drawn, strict=True)]
    return [(float(values.mean()), float(values.std())) for values in joined]


def claim(paper: str, found: Measured, form: str, margin: bool) -> Claim:
    """Return whether the shared edges follow lambda with the margin, or miss it at an end without."""
    values = next(v for name, v in found.items() if name.startswith(form) and ("no margin" in name) != margin)
    errors = [abs(mean - lam) for lam, (mean, _) in enumerate(values)]
    said = f"they miss lambda by {', '.join(f'{error:.2f}' for error in errors)} edges at 0 to {len(errors) - 1}"
    return Claim(paper, said, max(errors) < HALF if margin else max(errors[0], errors[-1]) >= HALF)


def lines(found: Measured) -> Figure:
    """Draw the mean shared edges of each variant against lambda, with the standard deviation."""
    figure = Figure(figsize=(6.4, 4.4), layout="constrained", facecolor="white", dpi=DPI)
    axes = figure.subplots()
    last = max(len(values) for values in found.values()) - 1
    axes.plot([0, last], [0, last], color=SOFT, linewidth=0.8, linestyle=":", label="lambda")
    for at, ((name, values), colour) in enumerate(zip(found.items(), PALETTE, strict=False)):
        where = [lam + 0.03 * (at - 1.5) for lam in range(len(values))]
        means, deviations = zip(*values, strict=True)
        style = "--" if "no margin" in name else "-"
        axes.errorbar(where, means, deviations, color=colour, linestyle=style, marker="o", markersize=3, label=name)
    axes.set_xlabel("lambda", fontsize=10, color=INK)
    axes.set_ylabel("edges shared with the optimum", fontsize=10, color=INK)
    axes.tick_params(labelsize=8, colors=SOFT)
    axes.legend(frameon=False, fontsize=8)
    bare(axes)
    return figure
