"""A loss balanced between the team and its members."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch.nn import functional

from robustkit.base.errors import UserError
from robustkit.defenses import Loss, Outputs, defense
from robustkit.defenses._terms import mean_cross_entropy
from robustkit.functional.precision import full


@defense(
    "balanced",
    source="Buschjaeger et al. 2020, arXiv:2011.02952; design-diversity paper (Rosales et al. 2023), eq. 3",
    members=2,
    check="fits",
    paper="design-diversity",
)  # fmt: skip
def balanced(outputs: Outputs, *, lam: float = 0.2) -> Loss:
    """Balance of team and members: a part of the loss is that of the fused prediction.

    L = lam CE(f, y) + (1 - lam) mean_m CE(z_m, y), f the mean of the logits, which the paper's averaging consensus
    is. The fused part alone rewards members that are right where the others are wrong. The recipe is the paper's for
    ImageNet (its ResNet-50 left out, as it fits no small images).

    Parameters
    ----------
    lam : float
        Weight of the team, at most 1: 0 is an ensemble trained independently, 1 one network of M branches.
    """
    logits = full(outputs.logits)
    ce = mean_cross_entropy(logits, outputs.y, outputs.smoothing)
    team = functional.cross_entropy(logits.mean(0), outputs.y, label_smoothing=outputs.smoothing)
    return Loss(lam * team + (1 - lam) * ce, {"ce": ce.detach(), "team": team.detach()})


def fits(params: Mapping[str, Any], members: int, classes: int) -> None:
    """Check that no part has a negative weight."""
    if params["lam"] > 1:
        raise UserError(f"balanced.lam {params['lam']:g} is out of range; it must be in [0, 1].")
