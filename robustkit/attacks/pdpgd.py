"""PDPGD, the primal-dual proximal gradient attack, in four norms."""

from __future__ import annotations

import math
from typing import Literal

import torch
from torch import Tensor
from torch.nn import functional

from robustkit.attacks import attack
from robustkit.attacks._adam import Adam
from robustkit.attacks._ascent import Generator, Model, value_and_gradient
from robustkit.attacks._boundary import begun, gap
from robustkit.attacks._last import shortest
from robustkit.attacks._parts import forward
from robustkit.attacks._proximal import proximal
from robustkit.functional.trace import Trace
from robustkit.functional.waits import Finite

LAST_STEP, LAST_DUAL = 0.01, 0.1  # final step sizes, as shares of the first
MEMORY = 0.9  # of the mean of the dual variables
CONDITION = 6.0  # of the metric at most: elements of small gradients would else be gone after one step
MOST = math.log(1e6)  # at most so far apart are the logarithms of the two dual variables


@attack(
    "pdpgd",
    norms=("l1", "l2", "linf", "l0"),
    budget="minimum",
    iterative=True,
    family="smallest",
    source="Matyasko and Chau 2021, arXiv:2106.01538",
)
def pdpgd(
    model: Model,
    x: Tensor,
    y: Tensor,
    *,
    steps: int = 500,
    step_size: float = 0.1,
    dual_step_size: float = 0.1,
    initial_ratio: float = 0.01,
    search_steps: int = 2,
    norm: Literal["l1", "l2", "linf", "l0"] = "l1",
    targeted: bool = False,
    generator: Generator = None,
    trace: Trace | None = None,
) -> Tensor:
    """Primal-dual proximal gradient descent: Adam on the loss, a proximal step on the norm, weights by dual ascent.

    minimise l_0 |d| + l_1 log(1 + exp(z_y - max_{i != y} z_i)) over d and maximise over the weights (l_0, l_1) of sum
    1, by u = clip(d - a m / s), m / s the step of Adam on the loss, then d = argmin_z a (l_0 / l_1) |z| + (1/2) sum_i
    s_i (z_i - u_i)^2, clipped. log(l_1 / l_0) rises by the dual step size after a failure and falls after a success; a
    mean of the weights over time is used. a falls to a hundredth exponentially, the dual step to a tenth linearly.
    Matyasko and Chau 2021. Deviations: the proximal step is solved exactly, not by an inner loop, in Adam's metric s
    with no element below a sixth of the largest; |z| stands for sum_i |z_i|^(2/3) in l0; the last iterate counts too,
    at a forward pass more; a search from the result back towards x follows, in l0 one for elements that are not needed
    (``search_steps=0``: none).

    Parameters
    ----------
    model : callable
        x (B, C, H, W) in [0, 1] to logits or log-probabilities (B, L).
    x, y : Tensor
        Images, and true labels (B,) or, if ``targeted``, target labels.
    steps : int
        Iterations; each costs a forward and a backward pass.
    step_size : float
        First step size a of Adam, in pixel units.
    dual_step_size : float
        First step size of log(l_1 / l_0).
    initial_ratio : float
        First l_0 / l_1.
    search_steps : int
        Steps of the search between x and the result, a forward pass each; in l0, whether there is one.

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
    nearest, start = begun(model, x, y, norm, targeted, trace)
    rows = nearest.standing()
    origin, labels, delta, adam = x[rows], y[rows], torch.zeros_like(x[rows]), Adam(x[rows])
    log_ratio = torch.full_like(nearest.distance[rows], -math.log(initial_ratio))
    mean = log_ratio.sigmoid()  # of l_1
    finite = Finite()
    for step in range(steps if len(rows) else 0):
        point = origin + delta
        z, values, g = value_and_gradient(
            model, point, labels, lambda z, y: functional.logsigmoid(gap(z, y, targeted)), backward=True,
            finite=finite,
        )  # fmt: skip
        trace.count(rows, forwards=1, backwards=1)
        trace.loss(rows, values)
        won = nearest.update(rows, point, z)
        direction, factor, scale = adam.update(g)
        rate = step_size * LAST_STEP ** (step / steps)
        delta.addcdiv_(direction, scale, value=rate * factor).add_(origin).clamp_(0.0, 1.0).sub_(origin)
        metric = scale.flatten(1)
        metric = torch.maximum(metric, metric.amax(1, keepdim=True) / CONDITION)
        near = proximal(delta.flatten(1), metric, rate * (1 - mean) / mean, norm)
        delta = near.view_as(origin).add_(origin).clamp_(0.0, 1.0).sub_(origin)
        dual = dual_step_size * (1 - (1 - LAST_DUAL) * step / max(1, steps - 1))
        log_ratio = (log_ratio + torch.where(won, -dual, dual)).clamp_(-MOST, MOST)
        mean = MEMORY * mean + (1 - MEMORY) * log_ratio.sigmoid()
    finite.settle()
    if len(rows):
        nearest.update(rows, origin + delta, forward(model, origin + delta, rows, trace))
    shortest(model, nearest, gap(start, y, targeted), search_steps, trace)
    return nearest.x
