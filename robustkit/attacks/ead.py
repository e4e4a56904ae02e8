"""EAD, the elastic-net attack of Chen et al. for the smallest L1 perturbation."""

from __future__ import annotations

import math
from typing import Literal

import torch
from torch import Tensor

from robustkit.attacks import attack
from robustkit.attacks._ascent import Generator, Model
from robustkit.attacks._boundary import gap
from robustkit.attacks._parts import forward
from robustkit.attacks._search import ConstantSearch
from robustkit.attacks._successes import Successes, positive
from robustkit.base.errors import UserError
from robustkit.functional.norms import TINY, per_sample
from robustkit.functional.trace import Trace

# Of the adaptive search: its passes, as a share of the steps of a run, and at least; first step, in lr and at most,
# and the last as a share of it; weight of the last move.
SHARE, LEAST = 0.3, 60
FIRST_LR, FIRST_STEP, LAST_STEP = 30.0, 0.3, 0.01
MOMENTUM = 0.7
# How far c is above that of the linearised boundary: at first, at least, at most; its change after failure and success.
ABOVE, FLOOR, CEILING = 10.0, 1.05, 1e10
UP, DOWN = 1.3, 0.75
EDGE, FAR = 1e-6, 1e6  # room that is none, and a step that reaches any edge


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
    adaptive: bool = True,
    targeted: bool = False,
    generator: Generator = None,
    trace: Trace | None = None,
) -> Tensor:
    """Elastic-net attack: a small and sparse perturbation, by FISTA on L1 + L2 and a search over c.

    minimise g(x') + beta |x' - x|_1, g(x') = |x' - x|_2^2 + c * max(z_y - max_{i != y} z_i, -confidence), by
    x_{k+1} = S(v_k - lr_k grad g(v_k)), v_{k+1} = x_{k+1} + k / (k + 3) (x_{k+1} - x_k), lr_k = lr sqrt(1 - k / steps);
    S moves every pixel by ``beta`` towards the original one, stops there, and clips to [0, 1]. So much for
    ``adaptive=False``, and what follows in the next paragraph.

    Deviations: none from the paper's update, whose S shrinks by beta in every step whatever lr_k, so that L1 in effect
    weighs beta / lr_k; the public code's box [-1/2, 1/2] is ours moved by 1/2. v_k is clipped to [0, 1] and counts as
    a candidate too. The rule that aborts a run looks at the sample's own loss (at v_k, with L1 weighing beta / lr), not
    at the batch's sum, and spares a run that still finds smaller successes. A candidate that can change nothing,
    because a smaller success is known and this c has succeeded, is not scored. Without confidence a last search moves
    the result along the line to x, where both norms shrink, and with the rule L1 first onto the linearised boundary.

    If ``adaptive``, there is a single run of three tenths of ``steps`` (60 at least, where there are so many), and what
    the decision rule has least of is what is minimised, with c f: S shrinks by lr_k beta or, with the rule L1, by lr_k,
    and there is no square. c is a multiple of what the boundary linearised at v_k asks for, so that the best pixel with
    room left gains: ten times at first, 1.3 times more after each failure, .75 times after each success, both less in
    the end. lr_k falls to a hundredth exponentially, the momentum is .7. Another run, where c goes on from where it
    ended, is only for samples of which none succeeded.

    Parameters
    ----------
    model : callable
        x (B, C, H, W) in [0, 1] to logits or log-probabilities (B, L).
    x, y : Tensor
        Images, and true labels (B,) or, if ``targeted``, target labels.
    steps : int
        FISTA steps of a run; each costs one gradient and, if not adaptive, at most one more forward pass.
    search_steps : int
        Runs, each with another c. The ADP paper's fixed c: ``initial_c=c, search_steps=1, adaptive=False``.
    initial_c : float
        The first c; not if adaptive.
    lr : float
        First step size, in pixel units; if adaptive, a thirtieth of it, which is at most .3.
    beta : float
        Weight of L1, and if not adaptive the soft threshold in pixel units.
    decision_rule : {"EN", "L1"}
        What the returned image has least of: |delta|_2^2 + beta |delta|_1, or |delta|_1.
    confidence : float
        kappa, in logits: by how much a success must be won. Where none is, the smallest plain success is returned.
    abort_early : bool
        End a sample's run when a tenth of its steps neither lowered its loss by 0.01 % nor found a smaller success.
        Looking more often costs distance: a run that rests for long may still arrive. If adaptive, begin no other run
        of a sample whose margin the last one did not raise.
    adaptive : bool
        Whether c follows the boundary in a single run, which takes a fraction of the passes, and ends nearer.
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
    positive(steps=steps, search_steps=search_steps, lr=lr, initial_c=initial_c)
    if adaptive:
        near = Successes(model, x, y, confidence=confidence, targeted=targeted, trace=trace)
        _search_near(near, steps, search_steps, lr, beta, decision_rule, abort_early)
        return near.refined("l1", plane=decision_rule == "L1")
    search = ConstantSearch(
        model, x, y, steps=steps, passes=steps, search_steps=search_steps, initial_c=initial_c,
        confidence=confidence, abort_early=abort_early, targeted=targeted, trace=trace,
    )  # fmt: skip
    _search_published(search, steps, lr, beta, decision_rule)
    return search.refined("l1", plane=decision_rule == "L1")


def _search_published(search: ConstantSearch, steps: int, lr: float, beta: float, rule: str) -> None:
    point = ahead = search.origin.clone()
    while len(search.rows):
        away = ahead - search.origin
        l1, l2 = _sizes(away)
        z, f, slope = search.probe(ahead)
        search.offer(ahead, l1 if rule == "L1" else l2 + beta * l1, z)
        k = search.step.to(ahead.dtype)
        rate = per_sample(lr * (1 - k / steps).sqrt(), ahead)
        moved = away - rate * (2 * away + per_sample(search.c, away) * slope)
        following = (search.origin + torch.nn.functional.softshrink(moved, beta)).clamp_(0.0, 1.0)
        delta = following - search.origin
        # Where this and the last two images are the original one, later and smaller steps cannot leave it either.
        stuck = ~(away.flatten(1).any(1) | delta.flatten(1).any(1) | (point - search.origin).flatten(1).any(1))
        size1, size2 = _sizes(delta)
        search.offer_scored(following, size1 if rule == "L1" else size2 + beta * size1)
        ahead = (following + per_sample(k / (k + 3), following) * (following - point)).clamp_(0.0, 1.0)
        point = following
        restart, keep = search.advance(l2 + beta / lr * l1 + search.c * f, stuck)
        if keep is not None:
            point, ahead = point[keep], ahead[keep]
        if restart is not None:
            anew = per_sample(restart, point)
            point, ahead = torch.where(anew, search.origin, point), torch.where(anew, search.origin, ahead)


def _search_near(
    near: Successes, steps: int, search_steps: int, lr: float, beta: float, rule: str, abort_early: bool
) -> None:
    point, above = near.origin, torch.full_like(near.best_size, ABOVE)
    for _ in range(search_steps if len(near.rows) else 0):
        point, above, raised = _descend(
            near, point, above, max(min(steps, LEAST), round(SHARE * steps)), lr, beta, rule
        )
        keep = torch.nonzero(~near.sure & raised if abort_early else ~near.sure).squeeze(1)
        if len(keep) == 0:
            return
        near.keep(keep)
        point, above = point[keep], above[keep]


def _descend(
    near: Successes, point: Tensor, above: Tensor, steps: int, lr: float, beta: float, rule: str
) -> tuple[Tensor, Tensor, Tensor]:
    """Make one run from ``point`` (b, ...); return its end, how far c is above, whether the margin was raised, (b,)."""
    x, ahead, begun, square = near.origin, point, None, rule == "EN"
    for step in range(steps):
        share = (1 + math.cos(math.pi * step / steps)) / 2
        rate = min(FIRST_LR * lr, FIRST_STEP) * LAST_STEP ** (step / steps)
        z, height, g = near.look(ahead)
        away = ahead - x
        l1, l2 = _sizes(away)
        near.offer(ahead, l2 + beta * l1 if square else l1, z)
        begun, failed = height if begun is None else begun, height <= 0
        c, unit = _least_c(ahead, away, height, g, beta, square)
        moved = torch.addcmul(away, unit, per_sample((rate * above * c).clamp_max_(FAR) * failed, g))
        if square:
            moved.sub_(away, alpha=2 * rate)
        following = torch.nn.functional.softshrink(moved, rate * (beta if square else 1.0)).add_(x).clamp_(0.0, 1.0)
        # Until the first success c grows as fast as at the beginning.
        slower = 0.2 + 0.8 * share
        change = torch.where(failed, torch.where(near.sure, UP**slower, UP), DOWN**slower)
        above = (above * change).clamp_(FLOOR, CEILING)
        ahead = (following + MOMENTUM * (following - point)).clamp_(0.0, 1.0)
        point = following
    z = forward(near.model, point, near.rows, near.trace)
    l1, l2 = _sizes(point - x)
    near.offer(point, l2 + beta * l1 if square else l1, z)
    raised = gap(z, near.labels, near.targeted) - near.confidence > (begun if begun is not None else 0)
    return point, above, raised


def _least_c(
    point: Tensor, away: Tensor, height: Tensor, g: Tensor, beta: float, square: bool
) -> tuple[Tensor, Tensor]:
    """Return the c above which a step leads to the boundary linearised at ``point``, (b,), for a gradient of unit size.

    The gradient (b, ...) is divided by its largest element with room left, and returned. Then c is 1 for |d|_1, and for
    |d|_2^2 + beta |d|_1 beta and what |d|_2^2 alone asks for: twice the height at x over the gradient's square.
    """
    free = g.abs() * (torch.where(g > 0, 1 - point, point) > EDGE)
    top = free.flatten(1).amax(1)
    top = torch.where(top > TINY, top, math.inf)  # where no pixel can move, none does
    unit = g / per_sample(top, g)
    if not square:
        return torch.ones_like(top), unit
    need = ((unit * away).flatten(1).sum(1) - height / top).clamp_min(0)
    return beta + 2 * need / (free / per_sample(top, g)).flatten(1).square().sum(1).clamp_min(TINY), unit


def _sizes(delta: Tensor) -> tuple[Tensor, Tensor]:
    """Return |delta|_1 and |delta|_2^2 of each sample, (B,) both."""
    flat = delta.flatten(1)
    return flat.abs().sum(1), flat.square().sum(1)
