"""Bounds of members to a certificate of the fused answer, by fusion rule.

``mean-logit`` (and ``geometric-mean``, which is the same in exact arithmetic): the margin of the mean logits is one
linear function of all members' logits, bounded through all of them at once. ``mean-prob``, ``majority``, ``median`` and
``random`` are in :mod:`robustkit.certify.voting`. Of one member every rule is its margin.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from robustkit.base.chances import is_random
from robustkit.base.errors import UserError
from robustkit.certify import voting
from robustkit.certify.graph import Graph
from robustkit.certify.margins import Effort as Effort
from robustkit.certify.margins import Margins as Margins
from robustkit.certify.region import Region

MEANS = ("mean-logit", "geometric-mean")
RULES = (*MEANS, "mean-prob", "majority", "median", "random")
LEAST_SLACK, OBSERVED = 1e-6, 10.0  # what a margin must exceed; times the rounding of float32 that was seen


@dataclass(frozen=True)
class Certificate:
    """What is proven of B samples.

    Attributes
    ----------
    floor : Tensor, (B,)
        How likely the answer is right on every image of the region, at least: 1 or 0 unless members are drawn.
    alone : Tensor of bool, (M, B)
        Which members are proven right by themselves, with the same effort.
    by_interval : bool
        Whether a layer was too large for linear bounds, so that more effort could prove more.
    """

    floor: Tensor
    alone: Tensor
    by_interval: bool


def check_rule(fusion: str, members: int) -> None:
    """Raise a :class:`UserError` if there are no bounds for a fusion rule."""
    if members > 1 and fusion not in RULES and not is_random(fusion):
        raise UserError(f"fusion rule '{fusion}' has no certified bounds; those that have are {', '.join(RULES)}.")


@torch.no_grad()
def certify(
    graph: Graph, fusion: str, chances: tuple[float, ...], region: Region, y: Tensor, effort: Effort, slack: float
) -> Certificate:
    """Prove what can be proven of samples that the ensemble classifies right.

    Parameters
    ----------
    graph : Graph
        An output for each member, in float64, as the region is.
    chances : tuple of float
        With what probability each member is drawn; empty where none is.
    y : Tensor of int64, (B,)
        Labels.
    slack : float
        What a margin must exceed (:func:`slack_of`).
    """
    members, check = len(graph.outputs), Margins(graph, region, y, effort, slack)
    each = torch.eye(members, dtype=torch.float64, device=y.device)
    alone = torch.stack([check.proven(weights).all(0) for weights in each])
    if members == 1:
        fused = alone[0]
    elif fusion in MEANS:
        fused = alone.all(0)
        if not bool(fused.all()):
            fused = fused | check.proven(torch.full_like(each[0], 1 / members)).all(0)
    elif fusion == "mean-prob":
        fused = voting.mean_prob(check, alone)
    elif fusion == "majority":
        fused = voting.majority(check, alone)
    elif fusion == "median":
        fused = alone.all(0)  # an order statistic of p_y is above that of p_j where each p_y is above its p_j
    else:
        drawn = torch.tensor(chances, dtype=torch.float64, device=y.device)
        return Certificate(drawn @ alone.double(), alone, bool(check.found.by_interval))
    return Certificate(fused.double(), alone, bool(check.found.by_interval))


@torch.no_grad()
def slack_of(graph: Graph, members: torch.nn.ModuleList, x: Tensor) -> float:
    """Return what a margin must exceed: ten times how far float32 logits were seen from the graph's in float64.

    A bound is on the network in exact arithmetic, computed in float64; the network that answers rounds. The slack
    covers what is seen of it on the images x and on x moved to corners of a box, and is no proof against rounding.

    Raises
    ------
    UserError
        If logits seen there are not finite.
    """
    signs = torch.where(torch.arange(x[0].numel(), device=x.device).view(x[0].shape) % 3 == 0, 1.0, -1.0)
    tried = torch.cat([x, (x + 0.03 * signs).clamp(0, 1), (x - 0.03 * signs).clamp(0, 1)])
    exact = graph.forward(tried.double())
    seen = [float((member(tried).double() - z).abs().max()) for member, z in zip(members, exact, strict=True)]
    for at, most in enumerate(seen):
        if not math.isfinite(most):
            raise UserError(f"member {at} cannot be certified: its logits near an image are not finite numbers.")
    return max(LEAST_SLACK, OBSERVED * max(seen))
