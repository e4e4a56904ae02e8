"""SDDE, saliency-diversified deep ensembles."""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor

from robustkit.defenses import Loss, Outputs, defense
from robustkit.defenses._terms import asked_again, mean_cross_entropy, pair_cosine
from robustkit.functional.attribution import SMALLEST, gradcam, saliency
from robustkit.functional.precision import full


@defense(
    "sdde",
    source="Dereka et al. 2024, arXiv:2305.11616, eq. 4 and 5, algorithm 1",
    own_batches=True,
    needs=("maps",),
    members=2,
    paper="sdde",
    paper_own={
        "mnist": {"fusion": "mean-logit", "params": {"lam": 0.1}},
        "*": {"fusion": "mean-logit", "params": {"lam": 0.005}},
    },
)  # fmt: skip
def sdde(
    outputs: Outputs, *, lam: float = 0.005, maps: Literal["gradcam", "saliency"] = "gradcam", layer: str = ""
) -> Loss:
    """Saliency-diversified ensemble: members are made to look at different parts of an image.

    L = mean_m CE(z_m, y_m) + lam * mean over pairs and samples of cos(S_i, S_j), S_m member m's map of the true class
    on one batch that all share, in eval mode; CE on a batch of each member's own.

    GradCAM maps are cropped by a pixel per side and standardised ((S - mean) / (population std + 1e-6)) before the
    cosine, as in the public code; the paper does not say so. Deviation: maps of three pixels a side are not cropped
    (there the public code compares nothing). The layer is the end of the next-to-last stage, as in the public code's
    ResNets; its maps of LeNet are those behind the second pooling, which no layer of our ``lenet`` gives.

    Parameters
    ----------
    lam : float
        Weight of the cosine: the paper's 0.1 on MNIST, 0.005 on CIFAR and ImageNet.
    maps : {"gradcam", "saliency"}
        ``saliency``: input gradients (paper, appendix B), about 2.4 times slower. Deviation: of the true class's
        logit, where the paper's eq. 1 has the sum of all.
    layer : str
        Name of the layer of GradCAM; empty: the end of the next-to-last stage.

    Raises
    ------
    UserError
        If a member has no convolutional maps or the layer is unknown.
    """
    members, batch = asked_again(outputs, "sdde")
    if maps == "gradcam":
        found = standardised(gradcam(members, batch.x, batch.y, layer=layer))
    else:
        found = saliency(members, batch.x, batch.y)
    ce = mean_cross_entropy(full(outputs.logits), outputs.y, outputs.smoothing)
    cosine = pair_cosine(found)
    return Loss(ce + lam * cosine, {"ce": ce.detach(), "cosine": cosine.detach()})


def standardised(maps: Tensor) -> Tensor:
    """Return maps (M, B, h, w) without their border, each with mean 0 and population standard deviation 1.

    Maps of three pixels a side keep their border: what is left would be one pixel, which is its own mean.
    """
    inner = (maps if min(maps.shape[2:]) <= SMALLEST else maps[:, :, 1:-1, 1:-1]).flatten(2)
    centred = inner - inner.mean(2, keepdim=True)
    deviation = torch.sqrt((centred * centred).mean(2, keepdim=True) + 1e-20)  # a dead map's gradient is 0, not NaN
    return centred / (deviation + 1e-6)
