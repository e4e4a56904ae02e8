"""EAD, the elastic-net attack of Chen et al. for the smallest L1 perturbation."""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor

from robustkit.attacks import attack
from robustkit.attacks._ascent import Generator, Model
from robustkit.attacks._search import ConstantSearch
from robustkit.base.errors import UserError
from robustkit.functional.norms import per_sample
from robustkit.functional.trace import Trace


@attack(
    "ead",
    norms=("l1",),
    budget="minimum",
    iterative=True,
    unlimited={"search_steps": 9},
    family="smallest",
    source="Chen et al. 2018, arXiv:1709.04114",
)
def ead(
    model: Model,
    x: Tensor,
    y: Tensor,
    *,
    steps: int = 1000,
    search_steps: int = 9,
    initial_c: float = 1e-3,
    lr: float = 0.01,
    beta: float = 0.01,
    decision_rule: Literal["EN", "L1"] = "EN",
    confidence: float = 0.0,
    abort_early: bool = True,
    targeted: bool = False,
    generator: Generator = None,
    trace: Trace | None = None,
) -> Tensor:
    """Elastic-net attack: a small and sparse perturbation, by FISTA on L1 + L2 and a search over c.

    minimise g(x') + beta |x' - x|_1, g(x') = |x' - x|_2^2 + c * max(z_y - max_{i != y} z_i, -confidence), by
    x_{k+1} = S(v_k - lr_k grad g(v_k)), v_{k+1} = x_{k+1} + k / (k + 3) (x_{k+1} - x_k), lr_k = lr sqrt(1 - k / steps);
    S moves every pixel by ``beta`` towards the original one, stops there, and clips to [0, 1].

    Deviations: none from the paper's update, whose S shrinks by beta in every step whatever lr_k, so that L1 in effect
    weighs beta / lr_k; the public code's box [-1/2, 1/2] is ours moved by 1/2. v_k is clipped to [0, 1] and counts as
    a candidate too. The rule that aborts a run looks at the sample's own loss (at v_k, with L1 weighing beta / lr), not
    at the batch's sum, and spares a run that still finds smaller successes. A candidate that can change nothing,
    because a smaller success is known and this c has succeeded, is not scored. Without confidence a last search moves
    the result along the line to x, where both norms shrink, and with the rule L1 first onto the linearised boundary.

    Parameters
    ----------
    model : callable
        x (B, C, H, W) in [0, 1] to logits or log-probabilities (B, L).
    x, y : Tensor
        Images, and true labels (B,) or, if ``targeted``, target labels.
    steps : int
        FISTA steps of a run; each costs one gradient and at most one more forward pass.
    search_steps : int
        Runs, each with another c. The ADP paper's fixed c: ``initial_c=c, search_steps=1``.
    initial_c : float
        The first c.
    lr : float
        First step size, in pixel units.
    beta : float
        Weight of L1, and the soft threshold in pixel units.
    decision_rule : {"EN", "L1"}
        What the returned image has least of: |delta|_2^2 + beta |delta|_1, or |delta|_1.
    confidence : float
        kappa, in logits: by how much a success must be won. Where none is, the smallest plain success is returned.
    abort_early : bool
        End a sample's run when a tenth of its steps neither lowered its loss by 0.01 % nor found a smaller success.
        Looking more often costs distance: a run that rests for long may still arrive.
    generator : ignored
        There is nothing random.

    Returns
    -------
    Tensor
        The smallest adversarial images found, shape and dtype of x; x itself where it is won already, or where none
        was found.

    Raises
    ------
    UserError
        If a count, c or lr is not positive, beta negative, or the decision rule unknown.
    """
    if not beta >= 0:
        raise UserError(f"beta = {beta:g} is out of range: give a number of at least 0.")
    if decision_rule not in ("EN", "L1"):
        raise UserError(f"decision_rule '{decision_rule}' is none of EN, L1.")
    search = ConstantSearch(
        model, x, y, steps=steps, passes=steps, search_steps=search_steps, lr=lr, initial_c=initial_c,
        checks=10, aim=None, settle=False, confidence=confidence, abort_early=abort_early, targeted=targeted,
        trace=trace,
    )  # fmt: skip
    point = ahead = search.origin.clone()
    while len(search.rows):
        away = ahead - search.origin
        l1, l2 = _sizes(away)
        z, f, slope = search.probe(ahead, 2 * l2 + beta * l1)
        search.offer(ahead, l1 if decision_rule == "L1" else l2 + beta * l1, z)
        k = search.step.to(x.dtype)
        rate = per_sample(lr * (1 - k / steps).sqrt(), ahead)
        moved = away - rate * (2 * away + per_sample(search.c, away) * slope)
        following = (search.origin + torch.nn.functional.softshrink(moved, beta)).clamp_(0.0, 1.0)
        delta = following - search.origin
        # Where this and the last two images are the original one, later and smaller steps cannot leave it either.
        stuck = ~(away.flatten(1).any(1) | delta.flatten(1).any(1) | (point - search.origin).flatten(1).any(1))
        size1, size2 = _sizes(delta)
        search.offer_scored(following, size1 if decision_rule == "L1" else size2 + beta * size1)
        ahead = (following + per_sample(k / (k + 3), following) * (following - point)).clamp_(0.0, 1.0)
        point = following
        restart, keep = search.advance(l2 + beta / lr * l1 + search.c * f, stuck)
        if keep is not None:
            point, ahead = point[keep], ahead[keep]
        if restart is not None:
            anew = per_sample(restart, point)
            point, ahead = torch.where(anew, search.origin, point), torch.where(anew, search.origin, ahead)
    return search.refined("l1", plane=decision_rule == "L1")


def _sizes(delta: Tensor) -> tuple[Tensor, Tensor]:
    """Return |delta|_1 and |delta|_2^2 of each sample, (B,) both."""
    flat = delta.flatten(1)
    return flat.abs().sum(1), flat.square().sum(1)
