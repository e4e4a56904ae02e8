"""FMN, the fast minimum-norm attack."""

from __future__ import annotations

import math
from typing import Literal

import torch
from torch import Tensor

from robustkit.attacks import attack
from robustkit.attacks._ascent import Generator, Model, value_and_gradient
from robustkit.attacks._boundary import DUAL, begun, gap
from robustkit.attacks._last import fewest
from robustkit.attacks._parts import forward
from robustkit.functional.norms import TINY, onto_ball, per_sample, size
from robustkit.functional.trace import Trace
from robustkit.functional.waits import Finite

LAST_GAMMA, LAST_STEP = 0.001, 0.01  # final gamma; final step size, as a share of the first


@attack(
    "fmn",
    norms=("linf", "l2", "l1", "l0"),
    budget="minimum",
    iterative=True,
    family="smallest",
    source="Pintor et al. 2021, arXiv:2102.12827",
)
def fmn(
    model: Model,
    x: Tensor,
    y: Tensor,
    *,
    steps: int = 100,
    step_size: float = 1.0,
    gamma: float = 0.05,
    norm: Literal["linf", "l2", "l1", "l0"] = "linf",
    targeted: bool = False,
    generator: Generator = None,
    trace: Trace | None = None,
) -> Tensor:
    """Fast minimum-norm attack: ascend in a ball that shrinks after each success and grows after each failure.

    d <- clip(P_e(d + a g / |g|_2)), g the gradient of f = max_{i != y} z_i - z_y. The radius e is |d| + |f| / |g|_q
    until the first success, then min(e (1 - c), |d*|) after a success and e (1 + c) after a failure, d* the best so
    far; for l0, from e = 1, at least one element less or more. a and c follow a cosine to a / 100 and 0.001. Pintor et
    al. 2021, algorithm 1. Deviations: the last iterate counts too, at one forward pass more; until the first success
    the radius grows at least as after a failure: where the box cuts steps short, the paper's rule stands still. In l0 a
    last search drops elements that the result does not need.

    Parameters
    ----------
    model : callable
        x (B, C, H, W) in [0, 1] to logits or log-probabilities (B, L).
    x, y : Tensor
        Images, and true labels (B,) or, if ``targeted``, target labels.
    steps : int
        Iterations; each costs a forward and a backward pass.
    step_size : float
        First step size a, an l2 length in pixel units, whatever the norm.
    gamma : float
        First relative change c of the radius.

    Returns
    -------
    Tensor
        The nearest adversarial images found, shape and dtype of x; x itself where none was found.

    Raises
    ------
    FloatingPointError
        If a gradient is not finite.
    """
    x, trace = x.detach(), trace or Trace(len(x))
    nearest, _ = begun(model, x, y, norm, targeted, trace)
    rows = nearest.standing()
    origin, labels, point = x[rows], y[rows], x[rows]
    radius = torch.full_like(nearest.distance[rows], 1.0 if norm == "l0" else 0.0)
    widest = (
        torch.full_like(radius, math.prod(x.shape[1:]))
        if norm == "l0"
        else size(torch.maximum(origin, 1 - origin), norm)
    )
    finite = Finite()
    for step in range(steps if len(rows) else 0):
        share = (1 + math.cos(math.pi * step / steps)) / 2
        length, change = _between(LAST_STEP * step_size, step_size, share), _between(LAST_GAMMA, gamma, share)
        z, f, g = value_and_gradient(
            model, point, labels, lambda z, y: gap(z, y, targeted), backward=True, finite=finite
        )
        trace.count(rows, forwards=1, backwards=1)
        trace.loss(rows, f)
        won = nearest.update(rows, point, z)
        found = nearest.distance[rows]
        if norm == "l0":
            radius = _next_count(radius, won, found, change)
        else:
            reach = size(point - origin, norm) + f.abs() / size(g, DUAL[norm]).clamp_min(TINY)
            wider = radius * (1 + change)
            failed = torch.where(torch.isfinite(found), wider, torch.maximum(reach, wider))
            radius = torch.where(won, torch.minimum(radius * (1 - change), found), failed)
        radius = torch.minimum(radius, widest)
        g = g / per_sample(size(g, "l2"), g).clamp_min(TINY)
        delta = onto_ball((point - origin + length * g).flatten(1), radius, norm)
        point = (origin + delta.view_as(origin)).clamp(0.0, 1.0)
    finite.settle()
    if len(rows):
        nearest.update(rows, point, forward(model, point, rows, trace))
    if norm == "l0":
        fewest(model, nearest, trace)
    return nearest.x


def _between(low: float, high: float, share: float) -> float:
    return low + (high - low) * share


def _next_count(count: Tensor, won: Tensor, found: Tensor, change: float) -> Tensor:
    """Return the next number of elements that may change, at least 1."""
    less = torch.minimum(torch.minimum(count - 1, (count * (1 - change)).floor()), found)
    more = torch.maximum(count + 1, (count * (1 + change)).floor())
    return torch.where(won, less, more).clamp_min(1)
