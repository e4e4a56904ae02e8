"""Figure 5 of the ADP paper."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import numpy.typing as npt
from matplotlib.figure import Figure

from robustkit.metrics.diversity import log_ensemble_diversity
from robustkit.reports._drawing import Drawing
from robustkit.reports._style import DPI, INK, PALETTE, SOFT, bare
from robustkit.reproduce import reproduction
from robustkit.reproduce._lab import Lab
from robustkit.reproduce._parts import Claim, Comparison, Images, Outcome
from robustkit.reproduce._recipes import ADP, ADP_ENTROPY, BASELINE, adp_recipe

COLUMNS = (BASELINE, ADP_ENTROPY, ADP)


@reproduction(
    "adp-figure5",
    title="ADP, Figure 5: histogram of the ensemble diversity of test images",
    source="Pang et al. 2019, arXiv:1901.08846, Figure 5 and appendix B.3",
    datasets=("cifar10",),
    defenses=("baseline", "adp"),
    attacks=(),
)
def adp_figure5(lab: Lab) -> Outcome:
    """Histogram and medians of the ensemble diversity of normal test images: plain, ADP(2,0) and ADP(2,0.5)."""
    lab.train(COLUMNS, adp_recipe(lab.stands_for))
    lab.clean(COLUMNS, Images(10_000, 10_000))
    runs = {record.id: run.samples for record, run in lab.runs("clean")}
    values = {c.name: log_ensemble_diversity(runs[lab.name(c)].member_logits, runs[lab.name(c)].y) for c in COLUMNS}
    plain, entropy, full = (float(np.median(v)) for v in values.values())
    comparisons = [
        Comparison("median log ED", name, float(np.median(v)), unit="nats") for name, v in values.items()
    ] + [Comparison("median ED", name, float(np.exp(np.median(v))), unit="") for name, v in values.items()]
    claims = [
        Claim(
            "with the LED part inactive, ADP(2,0), the ensemble diversity is still much larger than the baseline's",
            f"median log ED {entropy:.2f} against {plain:.2f}", entropy > plain,
        ),
        Claim(
            "the LED part, ADP(2,0.5), further encourages the ensemble diversity",
            f"median log ED {full:.2f} against {entropy:.2f} of ADP(2,0)", full > entropy,
        ),
    ]  # fmt: skip
    alt = "Histogram of log ED of the test images, a colour per ensemble."
    drawing = Drawing("ensemble-diversity", alt, histogram(values), "histogram")
    note = "The paper's medians are only in its picture. ED is in [0, 1], computed on the true labels."
    return Outcome(comparisons, claims, [drawing], decimals=3, note=note)


def histogram(values: Mapping[str, npt.NDArray[np.floating]]) -> Figure:
    """Draw the histograms of log ED by ensemble on common bins, with their medians."""
    figure = Figure(figsize=(7.2, 4.0), layout="constrained", facecolor="white", dpi=DPI)
    axes = figure.subplots()
    every = np.concatenate(list(values.values()))
    bins = np.linspace(every.min(), max(every.max(), every.min() + 1e-6), 61)
    for (name, v), colour in zip(values.items(), PALETTE, strict=False):
        median = float(np.median(v))
        axes.hist(v, list(bins), color=colour, alpha=0.45, label=f"{name}, median {median:.2f}")
        axes.axvline(median, color=colour, linewidth=1.4)
    axes.set_xlabel("log ensemble diversity", fontsize=10, color=INK)
    axes.set_ylabel("test images", fontsize=10, color=INK)
    axes.tick_params(labelsize=8, colors=SOFT)
    axes.legend(frameon=False, fontsize=9)
    bare(axes)
    return figure
