"""Sigma-zero, the smallest l0 perturbation by a smooth count of the changed elements."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from robustkit.attacks import attack
from robustkit.attacks._adam import Adam
from robustkit.attacks._ascent import Generator, Model, value_and_gradient
from robustkit.attacks._boundary import Nearest, gap
from robustkit.attacks._last import exchange, fewest
from robustkit.attacks._parts import forward
from robustkit.functional.norms import TINY, per_sample, size
from robustkit.functional.trace import Trace
from robustkit.functional.waits import Finite

LAST_STEP = 0.1  # final step size, as a share of the first
MOST_EXCHANGES = 20  # rounds of the last search; one for each 20 steps
# What the last search costs, in steps of a forward and a backward pass (twice a forward): once, and a round.
BISECTION, EXCHANGE = 5, 7 / 3


@attack(
    "sigma-zero",
    norms=("l0",),
    budget="minimum",
    iterative=True,
    family="smallest",
    source="Cina et al. 2025, arXiv:2402.01879",
)
def sigma_zero(
    model: Model,
    x: Tensor,
    y: Tensor,
    *,
    steps: int = 1000,
    step_size: float = 1.0,
    sigma: float = 0.001,
    threshold: float = 0.3,
    change: float = 0.01,
    search: bool = True,
    targeted: bool = False,
    generator: Generator = None,
    trace: Trace | None = None,
) -> Tensor:
    """Sigma-zero: change as few elements as possible, by descent on a smooth l0 and a threshold below which none stays.

    minimise max(z_y - max_{i != y} z_i, 0) + (1/n) sum_i d_i^2 / (d_i^2 + sigma) by Adam on its gradient divided by its
    largest element; after each step x + d is clipped to the box, and elements with |d_i| < t become 0. The threshold t
    grows by ``change`` times the step size after a success, and falls by it after a failure; the step size falls to a
    tenth by a cosine. Cina et al. 2025, algorithm 1, with the Adam of the authors' code. Deviations: a sample whose
    result changes one element is done; the last iterate counts too, at a forward pass more; of 20 steps or more the
    last ones are a search (``search=False``: none) that drops elements which the result does not need and exchanges
    some for fewer. An element is one channel of a pixel.

    Parameters
    ----------
    model : callable
        x (B, C, H, W) in [0, 1] to logits or log-probabilities (B, L).
    x, y : Tensor
        Images, and true labels (B,) or, if ``targeted``, target labels.
    steps : int
        Iterations, a forward and a backward pass each, and what takes as long at the end.
    step_size : float
        First step size, in pixel units.
    sigma : float
        How smooth the count is: an element of size sqrt(sigma) counts half.
    threshold : float
        First threshold t, in [0, 1].
    change : float
        What t moves in a step, as a share of the step size.
    search : bool
        Whether to look for fewer elements at the end.

    Returns
    -------
    Tensor
        The adversarial images of fewest changes found, shape and dtype of x; x itself where none was found.

    Raises
    ------
    FloatingPointError
        If a gradient is not finite.
    """
    x = x.detach()
    nearest, trace = Nearest(x, y, "l0", targeted), trace or Trace(len(x))
    rows = torch.arange(len(x), device=x.device)
    origin, labels, delta, limit = x, y, torch.zeros_like(x), x.new_full((len(x),), threshold)
    adam, count = Adam(x), max(1, x[0].numel()) if len(x) else 1
    finite = Finite()
    exchanges = min(steps // 20, MOST_EXCHANGES) if search else 0
    descent = steps - (BISECTION + round(EXCHANGE * exchanges) if exchanges else 0)
    for step in range(descent):
        rate = step_size * (LAST_STEP + (1 - LAST_STEP) * (1 + math.cos(math.pi * step / descent)) / 2)
        point = origin + delta
        z, f, g = value_and_gradient(
            model, point, labels, lambda z, y: gap(z, y, targeted).clamp_max(0.0), backward=True,
            finite=finite,
        )  # fmt: skip
        trace.count(rows, forwards=1, backwards=1)
        trace.loss(rows, f)
        won = nearest.update(rows, point, z)
        keep = nearest.distance[rows] > 1
        if finite.settle_and_read(~keep.all()):
            keep = torch.nonzero(keep).squeeze(1)
            rows, origin, labels, delta, limit, won, g = (t[keep] for t in (rows, origin, labels, delta, limit, won, g))
            adam.keep(keep)
            if len(rows) == 0:
                return nearest.x
        square = delta.square()
        g = (delta * (2 * sigma / count)).div_(square.add_(sigma).square_()).sub_(g)
        g.div_(per_sample(size(g, "linf").clamp_min(TINY), g))
        mean, factor, scale = adam.update(g)
        delta.addcdiv_(mean, scale, value=-rate * factor).add_(origin).clamp_(0.0, 1.0).sub_(origin)
        limit = (limit + torch.where(won, change * rate, -change * rate)).clamp_(0.0, 1.0)
        delta.masked_fill_(delta.abs() < per_sample(limit, delta), 0.0)
    finite.settle()
    nearest.update(rows, origin + delta, forward(model, origin + delta, rows, trace))
    if search:
        fewest(model, nearest, trace)
        exchange(model, nearest, exchanges, trace)
    return nearest.x
