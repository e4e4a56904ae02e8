"""FAB, the fast adaptive boundary attack."""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor

from robustkit.attacks import attack
from robustkit.attacks._ascent import Generator, Model
from robustkit.attacks._boundary import Nearest, begun, gap, linearise, refine, to_hyperplane
from robustkit.attacks._parts import fork, forward, others
from robustkit.functional.norms import TINY, per_sample, size
from robustkit.functional.sampling import SampleGenerator, as_generator
from robustkit.functional.trace import Trace
from robustkit.functional.waits import Finite, Looks

SPREAD = {"linf": 0.3, "l2": 1.0, "l1": 5.0}  # radius of a restart where nothing is found yet, as in the authors' code


@attack(
    "fab",
    norms=("linf", "l2", "l1"),
    budget="minimum",
    iterative=True,
    family="smallest",
    source="Croce and Hein 2020, arXiv:1907.02044",
)
def fab(
    model: Model,
    x: Tensor,
    y: Tensor,
    *,
    eps: float | None = None,
    steps: int = 100,
    targets: int = 9,
    restarts: int = 1,
    alpha_max: float = 0.1,
    eta: float = 1.05,
    beta: float = 0.9,
    search_steps: int = 3,
    norm: Literal["linf", "l2", "l1"] = "linf",
    targeted: bool = False,
    generator: Generator = None,
    trace: Trace | None = None,
) -> Tensor:
    """Fast adaptive boundary attack: walk along the decision boundary towards x, by projections within the box.

    x_{i+1} = clip((1 - a)(x_i + eta d(x_i)) + a (x + eta d(x))), d(.) the step onto the boundary linearised at x_i,
    a = min(|d(x_i)| / (|d(x_i)| + |d(x)|), alpha_max); after a success x_{i+1} <- x + beta (x_{i+1} - x). Croce and
    Hein 2020, algorithm 1. Deviations: the point after the backward step counts too (its output is known anyway);
    the final search goes by linear interpolation towards the boundary, keeping a tenth of the overshoot a step;
    a restart where nothing is found yet starts within half of 0.3 (linf), 1 (l2) or 5 (l1), as in the authors' code.

    Parameters
    ----------
    model : callable
        x (B, C, H, W) in [0, 1] to logits or log-probabilities (B, L).
    x, y : Tensor
        Images, and true labels (B,) or, if ``targeted``, target labels.
    eps : float or None
        Distortion that is small enough: a sample is done as soon as it is broken within it. None: as small as it gets.
    steps : int
        Iterations of one run.
    targets : int
        One run towards each of that many most likely other classes (FAB-T; 2 forwards and 1 backward a step). 0: one
        run towards whichever boundary is nearest (FAB; 2 forwards and L - 1 backwards a step). Any wrong class counts.
    restarts : int
        The first from x, the others from random points within half the distortion so far.
    alpha_max, eta, beta : float
        Largest pull towards x, overshoot, backward step.
    search_steps : int
        Steps of the search between x and the result.
    generator : SampleGenerator, torch.Generator, int or None
        Source of the random starts.

    Returns
    -------
    Tensor
        The nearest adversarial images found, shape and dtype of x; x itself where none was found.

    Raises
    ------
    FloatingPointError
        If a gradient is not finite.
    """
    return search(
        model, x, y, steps=steps, targets=targets, restarts=restarts, alpha_max=alpha_max, eta=eta, beta=beta,
        search_steps=search_steps, enough=eps or 0.0, norm=norm, targeted=targeted, generator=generator, trace=trace,
    )  # fmt: skip


def search(
    model: Model,
    x: Tensor,
    y: Tensor,
    *,
    steps: int,
    targets: int,
    restarts: int,
    alpha_max: float,
    eta: float,
    beta: float,
    search_steps: int,
    enough: float,
    norm: str,
    targeted: bool,
    generator: Generator,
    trace: Trace | None,
) -> Tensor:
    """Run FAB until each sample's distortion is ``enough`` (0: as small as it gets); see :func:`fab`."""
    x, trace, draws = x.detach(), trace or Trace(len(x)), as_generator(generator, x)
    nearest, z = begun(model, x, y, norm, targeted, trace)
    ranked = y[:, None] if targeted else others(z, y)
    width = min(targets, ranked.shape[1])
    runs = [ranked[:, j : j + 1] for j in range(width)] if targets else [ranked]
    finite = Finite()
    for restart in range(restarts):
        for classes in runs:
            rows = nearest.standing(enough)
            point = x[rows]
            if restart:
                point = _random_point(point, nearest.distance[rows], norm, fork(draws, rows, "start"))
            run = _Run(model, nearest, norm, targeted, trace, finite)
            run.walk(rows, point, classes[rows], steps, enough, alpha_max, eta, beta)
    finite.settle()
    refine(model, nearest, gap(z, y, targeted), search_steps, trace, enough)
    return nearest.x


class _Run:
    """One run of algorithm 1 for the samples that still stand."""

    def __init__(self, model: Model, nearest: Nearest, norm: str, targeted: bool, trace: Trace, finite: Finite) -> None:
        self.model, self.nearest, self.norm, self.targeted, self.trace = model, nearest, norm, targeted, trace
        self.finite = finite

    def walk(
        self, rows: Tensor, point: Tensor, classes: Tensor, steps: int, enough: float,
        alpha_max: float, eta: float, beta: float,
    ) -> None:  # fmt: skip
        looks, standing, norm, trace = Looks(), None, self.norm, self.trace
        for _ in range(steps):
            if len(rows) == 0:
                return
            origin, y = self.nearest.origin[rows], self.nearest.y[rows]
            z, f, g = linearise(self.model, point, y, classes, norm, self.targeted, self.finite, standing)
            trace.count(rows, forwards=1, backwards=classes.shape[1], standing=standing)
            trace.loss(rows, f, standing)
            self.nearest.update(rows, point, z, standing)
            point = _step(point, origin, f, g, norm, alpha_max, eta)
            won = self.nearest.update(rows, point, forward(self.model, point, rows, trace, standing), standing)
            point = torch.where(per_sample(won, point), origin + beta * (point - origin), point)
            keep, standing = looks.leave(self.nearest.distance[rows] > enough)
            if keep is not None:
                rows, point, classes = rows[keep], point[keep], classes[keep]


def _step(point: Tensor, origin: Tensor, f: Tensor, g: Tensor, norm: str, alpha_max: float, eta: float) -> Tensor:
    """Return the next point: between the overshot projections of ``point`` and of ``origin``."""
    w, here, there = g.flatten(1), point.flatten(1), origin.flatten(1)
    c = torch.cat([f, f + (w * (there - here)).sum(1)])
    d1, d2 = to_hyperplane(torch.cat([here, there]), torch.cat([w, w]), c, norm).chunk(2)
    far1, far2 = size(d1, norm), size(d2, norm)
    alpha = (far1 / (far1 + far2).clamp_min(TINY)).clamp_max(alpha_max)[:, None]
    return ((1 - alpha) * (here + eta * d1) + alpha * (there + eta * d2)).clamp(0.0, 1.0).view_as(point)


def _random_point(origin: Tensor, distance: Tensor, norm: str, draws: SampleGenerator) -> Tensor:
    """Return a random point at half the distortion found so far, clipped to the box."""
    shape, device = origin.shape[1:], origin.device
    way = draws.uniform(shape, -1.0, 1.0, device) if norm == "linf" else draws.normal(shape, device)
    radius = distance.clamp_max(SPREAD[norm]) / 2
    way = way.to(origin.dtype)
    return (origin + per_sample(radius / size(way, norm).clamp_min(TINY), way) * way).clamp(0.0, 1.0)
