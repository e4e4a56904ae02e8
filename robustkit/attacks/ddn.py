"""DDN, the decoupled direction and norm attack."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from robustkit.attacks import attack
from robustkit.attacks._ascent import Generator, Model, value_and_gradient
from robustkit.attacks._boundary import begun, gap
from robustkit.attacks._last import shortest
from robustkit.attacks._parts import forward
from robustkit.functional.norms import TINY, per_sample, size
from robustkit.functional.trace import Trace
from robustkit.functional.waits import Finite

LAST_STEP = 0.01  # final step size, as a share of the first


@attack(
    "ddn",
    norms=("l2",),
    budget="minimum",
    iterative=True,
    family="smallest",
    source="Rony et al. 2019, arXiv:1811.09600",
)
def ddn(
    model: Model,
    x: Tensor,
    y: Tensor,
    *,
    steps: int = 100,
    step_size: float = 1.0,
    gamma: float = 0.05,
    initial_norm: float = 1.0,
    search_steps: int = 2,
    targeted: bool = False,
    generator: Generator = None,
    trace: Trace | None = None,
) -> Tensor:
    """Decoupled direction and norm: steps up the cross-entropy, each rescaled to a sphere that follows the boundary.

    d_k = d_{k-1} + a g / |g|_2, g the gradient of the cross-entropy; x_k = clip(x + e_k d_k / |d_k|_2); e_k is
    (1 - gamma) e_{k-1} where x_{k-1} was adversarial, (1 + gamma) e_{k-1} where not. a falls to a hundredth by a
    cosine. Rony et al. 2019, algorithm 1. Deviations: the gradient is that of log((1 - p_y) / p_y), which has the same
    direction and does not vanish where p_y rounds to 1; a success that clipping left smaller than its sphere shrinks
    the next one from its own size; pixels are not rounded to 256 levels; the last iterate counts too, at a forward pass
    more, and a short search from the result back towards x follows (``search_steps=0``: none).

    Parameters
    ----------
    model : callable
        x (B, C, H, W) in [0, 1] to logits or log-probabilities (B, L).
    x, y : Tensor
        Images, and true labels (B,) or, if ``targeted``, target labels.
    steps : int
        Iterations; each costs a forward and a backward pass.
    step_size : float
        First step size a, an l2 length in pixel units.
    gamma : float
        Relative change of the radius.
    initial_norm : float
        First radius e_0.
    search_steps : int
        Steps of the search between x and the result, a forward pass each.

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
    nearest, z = begun(model, x, y, "l2", targeted, trace)
    rows = nearest.standing()
    origin, labels, point = x[rows], y[rows], x[rows]
    radius = torch.full_like(nearest.distance[rows], initial_norm)
    widest = size(torch.maximum(origin, 1 - origin), "l2")
    finite = Finite()
    for step in range(steps if len(rows) else 0):
        rate = step_size * (LAST_STEP + (1 - LAST_STEP) * (1 + math.cos(math.pi * step / steps)) / 2)
        answer, values, g = value_and_gradient(
            model, point, labels, lambda z, y: -log_odds(z, y) if targeted else log_odds(z, y), backward=True,
            finite=finite,
        )  # fmt: skip
        trace.count(rows, forwards=1, backwards=1)
        trace.loss(rows, values)
        delta = point - origin
        length = size(delta, "l2")
        won = nearest.update(rows, point, answer, distance=length)
        shorter = (1 - gamma) * torch.minimum(radius, length)
        radius = torch.minimum(torch.where(won, shorter, (1 + gamma) * radius), widest)
        delta.addcmul_(g, per_sample(rate / size(g, "l2").clamp_min(TINY), g))
        point = delta.mul_(per_sample(radius / size(delta, "l2").clamp_min(TINY), g)).add_(origin).clamp_(0.0, 1.0)
    finite.settle()
    if len(rows):
        nearest.update(rows, point, forward(model, point, rows, trace))
    shortest(model, nearest, gap(z, y, targeted), search_steps, trace)
    return nearest.x


def log_odds(z: Tensor, y: Tensor) -> Tensor:
    """Return log((1 - p_y) / p_y), (b,): its gradient is that of the cross-entropy over 1 - p_y, so never rounded to 0.

    Where p_y rounds to 1 the gradient of the cross-entropy itself is 0, and the attack would never leave x.
    """
    own = z.gather(1, y[:, None])
    return (z.scatter(1, y[:, None], float("-inf")).logsumexp(1, keepdim=True) - own).squeeze(1)
