"""Figure 9 of the design-diversity paper."""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence

import numpy as np
import numpy.typing as npt
import torch
from matplotlib.figure import Figure
from torch import Tensor, nn

from robustkit.ensembles.checkpoint import load_ensemble
from robustkit.functional.attribution import integrated_gradients, saliency
from robustkit.metrics.maps import map_variance
from robustkit.reports._drawing import Drawing
from robustkit.reports._style import DPI, INK, PALETTE, bare
from robustkit.reproduce import _design_diversity as paper
from robustkit.reproduce import reproduction
from robustkit.reproduce._lab import Lab
from robustkit.reproduce._parts import Claim, Comparison, Images, Outcome

IMAGES = Images(50_000, 200)
SUBNETWORKS, STEPS = 6, (2, 10, 50)
BATCH = 100
Floats = npt.NDArray[np.float64]


@reproduction(
    "design-diversity-figure9",
    title="Design diversity, Figure 9: saliency and integrated gradients rank pairs of subnetworks alike",
    source="Rosales et al. 2023, Exploring Resiliency to Natural Image Corruptions, Figure 9 and section 4.2",
    datasets=("imagenet",),
    defenses=(),
    attacks=(),
    searches=("supernet",),
)
def design_diversity_figure9(lab: Lab) -> Outcome:
    """Attribution diversity of all pairs of six subnetworks by one, 2, 10 and 50 backpropagations."""
    folders = paper.subnetworks(lab)[:SUBNETWORKS]
    members: list[nn.Module] = [load_ensemble(folder, device=lab.device).members[0] for folder in folders]
    split = lab.data.split("test").take(lab.count(IMAGES))
    lab.note("images whose attributions are compared", IMAGES.paper, len(split))
    scores = pair_diversities(members, split.tensor().to(lab.device), split.y.to(lab.device))
    pairs = list(itertools.combinations(scores, 2))
    r = {(a, b): float(np.corrcoef(scores[a], scores[b])[0, 1]) for a, b in pairs}
    mean = float(np.mean(list(r.values())))
    rows = [Comparison("mean correlation coefficient", "all methods", mean, 0.998, "")]
    rows += [Comparison("correlation coefficient", f"{a}, {b}", value, unit="") for (a, b), value in r.items()]
    claim = Claim(
        "saliency is justified: its scores are correlated with those of integrated gradients of many passes",
        f"lowest r of saliency and another method {min(v for (a, _), v in r.items() if a == 'saliency'):.3f}",
        min(v for (a, _), v in r.items() if a == "saliency") > 0.9,
    )
    names = [f"{a.name}-{b.name}" for a, b in itertools.combinations(folders, 2)]
    alt = "Diversity of each pair of subnetworks, scaled to [0, 1], a line for each method."
    drawing = Drawing("methods", alt, lines(scores, names), "line")
    note = f"{len(names)} pairs of {', '.join(folder.name for folder in folders)}; the paper does not say which six."
    return Outcome(rows, [claim], [drawing], decimals=3, note=note)


def pair_diversities(members: Sequence[nn.Module], x: Tensor, y: Tensor) -> dict[str, Floats]:
    """Return the attribution diversity (eq. 7) of every two members by each method, (P,) each, means over the images.

    Saliency is the magnitude of the gradient, integrated gradients keep their sign; both of the true class's logit.
    """
    pairs = list(itertools.combinations(range(len(members)), 2))
    names = ["saliency", *(f"integrated, {steps}" for steps in STEPS)]
    sums = {name: np.zeros(len(pairs)) for name in names}
    for rows in torch.split(torch.arange(len(y), device=x.device), BATCH):
        images, labels = x[rows], y[rows]
        maps = {"saliency": saliency(members, images, labels, create_graph=False).abs()}
        maps |= {f"integrated, {s}": integrated_gradients(members, images, labels, steps=s) for s in STEPS}
        for name, of_members in maps.items():
            found = of_members.cpu().numpy()
            sums[name] += [map_variance(found[list(pair)]).sum() for pair in pairs]
    return {name: total / len(y) for name, total in sums.items()}


def lines(scores: Mapping[str, Floats], names: Sequence[str]) -> Figure:
    """Draw the scores of each method over the pairs, scaled to [0, 1]."""
    figure = Figure(figsize=(7.4, 3.8), layout="constrained", facecolor="white", dpi=DPI)
    axes = figure.subplots()
    for (name, values), colour in zip(scores.items(), PALETTE, strict=False):
        axes.plot(paper.scaled(values.tolist()), color=colour, marker="o", markersize=3, label=name)
    axes.set_xticks(range(len(names)), list(names), rotation=60, fontsize=7, ha="right")
    axes.set_ylabel("attribution diversity, scaled", fontsize=9, color=INK)
    axes.legend(frameon=False, fontsize=8)
    bare(axes)
    return figure
