"""Recombine, an evolution of adversarial candidates: ascents that start from mixtures of what earlier ones found."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional

from robustkit.attacks import attack
from robustkit.attacks._ascent import Best, Generator, Model, ascend, gliding
from robustkit.functional.norms import Norm, per_sample, project, random_start
from robustkit.functional.sampling import SampleGenerator, as_generator
from robustkit.functional.trace import Trace
from robustkit.functional.waits import put

FOUNDING = 4  # times the steps of a child that a founder takes from its random start
SHORT = 0.1  # length of a child's steps against a founder's, which glide from 2 eps
FRESH = 0.02  # share of a child's pixels that are drawn anew
COARSE = 4  # pixels along the side of what a child has from one parent, about


@attack("recombine", norms=("linf", "l2"), iterative=True, settles=True, source="robustkit")
def recombine(
    model: Model,
    x: Tensor,
    y: Tensor,
    *,
    eps: float,
    steps: int = 12,
    population: int = 32,
    generations: int = 60,
    norm: Norm = "linf",
    targeted: bool = False,
    stop_early: bool = True,
    generator: Generator = None,
    trace: Trace | None = None,
) -> Tensor:
    """Recombine: keep the best of many short ascents of the margin, mix two of them, and ascend again from the mixture.

    A last resort for images on which restarts end just short of the boundary, each in another corner: what two of them
    found in different places of the image may be enough together. The population is founded by ascents of the margin
    from random points. Each child is one parent where a smooth random field is high, the other elsewhere, with one in
    fifty pixels drawn anew, and ascends for a few short steps towards the class that came nearest; it takes the place
    of the worst if it is better. Parents are drawn by rank, the better the likelier.

    Costs population (4 steps + 1) + generations x population (steps + 1) passes for an image that withstands: 26,528 as
    it stands, three hundred times those of the reference.

    Parameters
    ----------
    model : callable
        x (B, C, H, W) in [0, 1] to logits or log-probabilities (B, L).
    x, y : Tensor
        Images, and true labels (B,) or, if ``targeted``, target labels.
    eps : float
        Budget in pixel units [0, 1].
    steps : int
        Steps of each child; a founder takes four times as many.
    population : int
        Candidates kept of each image.
    generations : int
        How many times as many children are born.
    generator : SampleGenerator, torch.Generator, int or None
        Source of everything that is drawn.

    Returns
    -------
    Tensor
        Adversarial images, shape and dtype of x; where none was found, that of the highest margin.

    Raises
    ------
    FloatingPointError
        If a gradient is not finite.
    """
    draws, best, pool = as_generator(generator, x), Best(x), Pool(x, population)
    labels, aimed = y, targeted
    for run in range(population * (1 + generations)):
        founding = run < population
        if not founding and not aimed:
            labels, aimed = _nearest(model, pool.first(), y), True
        count, length = (FOUNDING * steps, 1.0) if founding else (steps, SHORT)
        start = random_start(x, eps, norm, draws)
        found = Best(x)
        if stop_early:
            found.won = best.won.clone()
        ascend(
            model, x, labels, eps=eps, steps=count, step_size=[length * size for size in gliding(eps, count)],
            norm=norm, loss="margin", targeted=aimed, stop_early=stop_early, trace=trace,
            start=start if founding else project(pool.child(start, draws), x, eps, norm), best=found,
        )  # fmt: skip
        pool.add(found.x, found.value)
        best.update(torch.arange(len(x), device=x.device), found.x, found.value, found.won)
        if stop_early and bool(best.won.all()):
            break
    return best.x


class Pool:
    """The candidates of each image, (B, P, C, H, W), and how far each got, (B, P)."""

    def __init__(self, x: Tensor, size: int) -> None:
        self.x = x[:, None].repeat(1, size, 1, 1, 1)
        self.value = torch.full((len(x), size), float("-inf"), device=x.device)
        self._rows = torch.arange(len(x), device=x.device)

    def add(self, point: Tensor, value: Tensor) -> None:
        """Put candidates (B, C, H, W) in the place of the worst, where they are better."""
        worst = self.value.argmin(1)
        better = value > self.value[self._rows, worst]
        places = self._rows * self.value.shape[1] + worst
        put(places, better, (self.x.view(-1, *point.shape[1:]), point), (self.value.view(-1), value))

    def first(self) -> Tensor:
        """Return the best candidate of each image, (B, C, H, W)."""
        return self.x[self._rows, self.value.argmax(1)]

    def child(self, fresh: Tensor, draws: SampleGenerator) -> Tensor:
        """Return a mixture of two candidates of each image, with a few pixels of ``fresh``; all (B, C, H, W)."""
        size, (height, width) = self.value.shape[1], fresh.shape[2:]
        ranked = self.value.argsort(1, descending=True)
        place = (draws.uniform((2,), device=fresh.device) ** 2 * size).long()
        place[:, 1] = torch.where(place[:, 0] == place[:, 1], (place[:, 1] + 1) % size, place[:, 1])
        one, other = (self.x[self._rows, ranked[self._rows, place[:, k]]] for k in range(2))
        field = draws.uniform((1, max(2, height // COARSE), max(2, width // COARSE)), device=fresh.device)
        mask = functional.interpolate(field, size=(height, width), mode="bilinear") > per_sample(
            field.flatten(1).median(1).values, field
        )
        drawn = draws.uniform(fresh.shape[1:], device=fresh.device) < FRESH
        return torch.where(drawn, fresh, torch.where(mask, one, other))


@torch.no_grad()
def _nearest(model: Model, x: Tensor, y: Tensor) -> Tensor:
    """Return the strongest class but y of each image, (B,)."""
    return model(x).scatter(1, y[:, None], float("-inf")).argmax(1)
