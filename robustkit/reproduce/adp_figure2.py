"""Figure 2 of the ADP paper."""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence

import numpy as np
import numpy.typing as npt
import torch
from matplotlib import colormaps
from matplotlib.figure import Figure
from sklearn.manifold import TSNE
from torch import Tensor, nn

from robustkit.base.errors import UserError
from robustkit.ensembles.ensemble import Ensemble
from robustkit.metrics.cka import linear_cka
from robustkit.reports._drawing import Drawing
from robustkit.reports._style import DPI, INK
from robustkit.reproduce import reproduction
from robustkit.reproduce._lab import Lab
from robustkit.reproduce._parts import Claim, Comparison, Images, Outcome
from robustkit.reproduce._recipes import ADP, BASELINE, adp_recipe

COLUMNS = (BASELINE, ADP)
IMAGES = Images(10_000, 500)
Arrays = list[npt.NDArray[np.float32]]


@reproduction(
    "adp-figure2",
    title="ADP, Figure 2: t-SNE of the final hidden features of each member",
    source="Pang et al. 2019, arXiv:1901.08846, Figure 2 and section 4.2",
    datasets=("cifar10",),
    defenses=("baseline", "adp"),
    attacks=(),
)
def adp_figure2(lab: Lab) -> Outcome:
    """t-SNE of each member's last hidden features, and how similar the members' features are: plain and ADP(2,0.5)."""
    lab.train(COLUMNS, adp_recipe(lab.stands_for))
    split = lab.data.split("test").take(lab.count(IMAGES))
    lab.note("test images", IMAGES.paper, len(split))
    maps: dict[str, Arrays] = {}
    comparisons, similar = [], []
    for column in COLUMNS:
        found = hidden_features(lab.ensemble(column), split.tensor().to(lab.device))
        with lab.reporter.task(f"t-SNE of {column.name}", len(found)) as advance:
            maps[column.name] = []
            for features in found:
                maps[column.name].append(embedded(features, lab.ask.seed))
                advance()
        similar.append(float(np.mean([linear_cka(a, b) for a, b in itertools.combinations(found, 2)])))
        comparisons.append(Comparison("mean linear CKA between members", column.name, similar[-1], unit=""))
    claim = Claim(
        "with ADP, the feature distributions that the members learn are much more different",
        f"mean linear CKA between members {similar[0]:.3f} plain, {similar[1]:.3f} ADP (1: equal up to rotation)",
        similar[1] < similar[0],
    )
    drawing = Drawing(
        "tsne", "t-SNE of the last hidden features: a row per ensemble, a panel per member, a colour per class.",
        scatter(maps, split.y.numpy(), lab.data.classes), "scatter",
    )  # fmt: skip
    note = "The paper has the picture alone; linear CKA with unbiased HSIC is what this repetition measures beside it."
    return Outcome(comparisons, [claim], [drawing], decimals=3, note=note)


@torch.no_grad()
def hidden_features(ensemble: Ensemble, x: Tensor, batch_size: int = 256) -> Arrays:
    """Return what each member's last linear layer is given, (N, D) each.

    Raises
    ------
    UserError
        If a member has no linear layer.
    """
    every: Arrays = []
    for at, member in enumerate(ensemble.members):
        layers = [module for module in member.modules() if isinstance(module, nn.Linear)]
        if not layers:
            raise UserError(f"member {at} has no linear layer, so no final hidden features; use another --arch.")
        seen: list[Tensor] = []

        def see(_: nn.Module, inputs: tuple[Tensor, ...], seen: list[Tensor] = seen) -> None:
            seen[:] = inputs[:1]  # whichever linear layer is called last is seen last

        hooks = [layer.register_forward_pre_hook(see) for layer in layers]
        try:
            parts = [(member(rows), seen[0].flatten(1).float().cpu())[1] for rows in torch.split(x, batch_size)]
        finally:
            for hook in hooks:
                hook.remove()
        every.append(torch.cat(parts).numpy())
    return every


def embedded(features: npt.NDArray[np.float32], seed: int) -> npt.NDArray[np.float32]:
    """Return the t-SNE map (N, 2) of features (N, D), scikit-learn's with its defaults (van der Maaten 2008)."""
    perplexity = min(30.0, (len(features) - 1) / 3)
    start = "pca" if min(features.shape) > 1 else "random"
    found: npt.NDArray[np.float32] = TSNE(perplexity=perplexity, init=start, random_state=seed).fit_transform(features)
    return found


def scatter(maps: Mapping[str, Arrays], y: npt.NDArray[np.int64], classes: Sequence[str]) -> Figure:
    """Draw the maps: a row per ensemble, a panel per member."""
    across = max(map(len, maps.values()))
    figure = Figure(figsize=(2.7 * across + 1.4, 2.9 * len(maps)), layout="constrained", facecolor="white", dpi=DPI)
    panels = figure.subplots(len(maps), across, squeeze=False)
    colours = colormaps["tab10" if len(classes) <= 10 else "nipy_spectral"]
    spread = 9 if len(classes) <= 10 else len(classes) - 1
    for row, (name, arrays) in zip(panels, maps.items(), strict=True):
        for at, (axes, points) in enumerate(zip(row, arrays, strict=False)):
            for label, text in enumerate(classes):
                own = points[y == label]
                axes.scatter(own[:, 0], own[:, 1], s=4, color=colours(label / spread), label=text, linewidths=0)
            axes.set_title(f"Network {at + 1}", fontsize=9, color=INK)
            axes.set_xticks([])
            axes.set_yticks([])
        row[0].set_ylabel(name, fontsize=10, fontweight="bold", color=INK)
    if len(classes) <= 20:
        handles, texts = panels[0][0].get_legend_handles_labels()
        figure.legend(handles, texts, loc="outside right center", frameon=False, fontsize=8, markerscale=2.5)
    return figure
