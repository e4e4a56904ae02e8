"""DeepFool, steps to the nearest linearised decision boundary."""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor

from robustkit.attacks import attack
from robustkit.attacks._ascent import Generator, Model
from robustkit.attacks._boundary import begun, gap, linearise, refine, to_hyperplane
from robustkit.attacks._parts import forward, others
from robustkit.functional.trace import Trace
from robustkit.functional.waits import Finite, Looks


@attack(
    "deepfool",
    norms=("l2", "linf"),
    budget="minimum",
    iterative=True,
    family="smallest",
    source="Moosavi-Dezfooli et al. 2016, arXiv:1511.04599",
)
def deepfool(
    model: Model,
    x: Tensor,
    y: Tensor,
    *,
    steps: int = 50,
    overshoot: float = 0.02,
    targets: int = 9,
    search_steps: int = 3,
    norm: Literal["l2", "linf"] = "l2",
    targeted: bool = False,
    generator: Generator = None,
    trace: Trace | None = None,
) -> Tensor:
    """DeepFool: step to the nearest linearised decision boundary until the label changes.

    x_{i+1} = clip(x + (1 + overshoot) sum_{j <= i} r_j), r_j the shortest step from x_j onto the boundary z_k - z_y = 0
    linearised there, k the class whose boundary is nearest. Moosavi-Dezfooli et al. 2016, algorithm 2. Deviations: r_j
    keeps to the box (the paper's -f_k grad f_k / |grad f_k|^2 spends itself on pixels that are then clipped: on images
    with many black pixels the attack may never arrive); a short search from the result back towards x
    (``search_steps=0``: none); a targeted mode, with the boundary z_y - max_{i != y} z_i = 0.

    Parameters
    ----------
    model : callable
        x (B, C, H, W) in [0, 1] to logits or log-probabilities (B, L).
    x, y : Tensor
        Images, and true labels (B,) or, if ``targeted``, target labels.
    steps : int
        Iterations at most; each costs a forward and ``targets`` backward passes.
    overshoot : float
        By which share the way is longer than to the boundary.
    targets : int
        How many other classes are considered, the most likely at x first; at most L - 1.
    search_steps : int
        Steps of the search between x and the result, a forward pass each.

    Returns
    -------
    Tensor
        Adversarial images, shape and dtype of x; x itself where none was found.

    Raises
    ------
    FloatingPointError
        If a gradient is not finite.
    """
    x, trace = x.detach(), trace or Trace(len(x))
    nearest, z = begun(model, x, y, norm, targeted, trace)
    rows = nearest.standing()
    point, total = x[rows], torch.zeros_like(x[rows])
    classes = y[rows, None] if targeted else others(z, y)[rows, :targets]
    looks, finite, standing = Looks(), Finite(), None
    for _ in range(steps):
        if len(rows) == 0:
            break
        _, f, g = linearise(model, point, y[rows], classes, norm, targeted, finite, standing)
        trace.count(rows, forwards=1, backwards=classes.shape[1], standing=standing)
        trace.loss(rows, f, standing)
        total = total + to_hyperplane(point.flatten(1), g.flatten(1), f, norm).view_as(total)
        point = (x[rows] + (1 + overshoot) * total).clamp(0.0, 1.0)
        won = nearest.update(rows, point, forward(model, point, rows, trace, standing), standing)
        keep, standing = looks.leave(~won, standing)
        if keep is not None:
            rows, point, total, classes = rows[keep], point[keep], total[keep], classes[keep]
    finite.settle()
    refine(model, nearest, gap(z, y, targeted), search_steps, trace)
    return nearest.x
