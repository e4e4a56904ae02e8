"""Recombine, an evolution of adversarial candidates: ascents that start from mixtures of what earlier ones found."""

from __future__ import annotations

import math

import torch
from torch import Tensor
from torch.nn import functional

from robustkit.attacks import attack
from robustkit.attacks._ascent import Best, Generator, Model, ascend, chances, gliding, value_and_gradient
from robustkit.attacks._parts import Part, fork
from robustkit.functional.losses import objective, succeeded
from robustkit.functional.norms import Norm, per_sample, project, random_start
from robustkit.functional.sampling import SampleGenerator, as_generator
from robustkit.functional.trace import Trace
from robustkit.functional.waits import put

FOUNDING = 8  # times the steps of a child that a founder takes from its random start
SHORT = 0.1  # length of a child's steps against a founder's, which glide from 2 eps
FRESH = 0.02  # share of a child's pixels that are drawn anew
COARSE = 4  # pixels along the side of what a child has from one parent, about
BROOD = 8  # candidates that ascend at a time: as good as one after another, and faster
REFINED = 20  # broods between two refinements of the best candidate, of REFINE steps of Adam
REFINE, RATE = 60, 1 / 15  # the length of Adam's first step, in eps
FAR = 0.25  # share of the margin of the image itself: who stands further off after the first founders is given up
PACED = 16  # broods after which an image's margin is noted for the first time, to see whether it closes fast enough
SLACK = 1.5  # times what it would close at its pace: a margin closes in leaps


@attack("recombine", norms=("linf", "l2"), iterative=True, settles=True, source="robustkit")
def recombine(
    model: Model,
    x: Tensor,
    y: Tensor,
    *,
    eps: float,
    steps: int = 6,
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
    of the worst if it is better. Parents are drawn by rank, the better the likelier. Eight children ascend at a time;
    after each twenty such broods the best candidate takes 60 steps of Adam, whose steps have a length for each pixel:
    near the top, where sign steps go to and fro, they go on.

    What is hopeless ends early: an image whose margin is more than a quarter of what it was without perturbation after
    eight founders, and one whose margin, after 16, 32, 64, ... broods, would not close by the end if every further
    doubling of the broods closed one and a half times as much of it as the last one did.

    Costs population (8 steps + 1) + generations x population (steps + 1) passes, and a fifteenth more to refine, for an
    image that withstands and seems about to fall until the last: 15,800 as it stands. One that is far costs 400.

    Parameters
    ----------
    model : callable
        x (B, C, H, W) in [0, 1] to logits or log-probabilities (B, L).
    x, y : Tensor
        Images, and true labels (B,) or, if ``targeted``, target labels.
    eps : float
        Budget in pixel units [0, 1].
    steps : int
        Steps of each child; a founder takes eight times as many.
    population : int
        Candidates kept of each image.
    generations : int
        How many times as many children are born.
    stop_early : bool
        End an image's search at its first success, or where it is hopeless.
    generator : SampleGenerator, torch.Generator, int or None
        Source of everything that is drawn; a search of other ``generations`` draws other numbers from the same seed, so
        that it is a second try, not the first one prolonged.

    Returns
    -------
    Tensor
        Adversarial images, shape and dtype of x; where none was found, that of the highest margin.

    Raises
    ------
    FloatingPointError
        If a gradient is not finite.
    """
    draws = fork(as_generator(generator, x), torch.arange(len(x), device=x.device), f"{generations} generations")
    search = _Search(model, x, y, eps, norm, targeted, stop_early, population, draws, trace)
    for _ in range(-(-population // BROOD)):
        search.found(FOUNDING * steps, min(BROOD, population))
        search.drop_far()
    broods = -(-generations * population // BROOD)
    for brood in range(1, broods + 1):
        if not len(search.rows):
            break
        search.breed(steps)
        if brood % REFINED == 0:
            search.refine()
        search.drop_slow(brood, broods)
    return search.best.x


class _Search:
    """Those images that are still searched: ``rows`` of the batch, with their pools and random streams."""

    def __init__(
        self, model: Model, x: Tensor, y: Tensor, eps: float, norm: str, targeted: bool, stop_early: bool,
        population: int, draws: SampleGenerator, trace: Trace | None,
    ) -> None:  # fmt: skip
        self.model, self.eps, self.norm, self.targeted, self.stop_early = model, eps, norm, targeted, stop_early
        self.rows = torch.arange(len(x), device=x.device)
        self.x, self.y, self.draws, self.pool = x, y, draws, Pool(x, population)
        self.trace, self.best = trace or Trace(len(x)), Best(x)
        self.before = torch.full((len(x),), float("-inf"), device=x.device)  # height when last asked for its pace
        self.gain = objective("margin", targeted)
        with torch.no_grad():
            self.height = self.gain(model(x), y)
        self.trace.count(self.rows, forwards=1)

    def found(self, steps: int, count: int) -> None:
        """Ascend from random points."""
        if len(self.rows):
            self._ascend(self._drawn(count), self.y, self.targeted, steps, 1.0)

    def breed(self, steps: int) -> None:
        """Ascend from a brood of children, towards the class that came nearest."""
        starts = torch.stack([self.pool.child(fresh, self.draws) for fresh in self._drawn(BROOD).unbind(1)], 1)
        labels = self.y
        if not self.targeted:
            with torch.no_grad():
                labels = self.model(self.pool.first()).scatter(1, self.y[:, None], float("-inf")).argmax(1)
            self.trace.count(self.rows, forwards=1)
        self._ascend(starts, labels, True, steps, SHORT)

    def refine(self) -> None:
        """Ascend from the best candidate with the steps of Adam (Kingma and Ba 2015, arXiv:1412.6980)."""
        if not len(self.rows) or chances(self.model):  # of answers that are drawn another loss is ascended
            return
        best, rows = Best(self.x), torch.arange(len(self.rows), device=self.rows.device)
        point, origin = self.pool.first(), self.x
        mean, square = torch.zeros_like(point), torch.zeros_like(point)
        length = self.eps * RATE / (1.0 if self.norm == "linf" else math.sqrt(point[0].numel()))
        for step in range(REFINE + 1):
            last = step == REFINE
            z, values, gradient = value_and_gradient(self.model, point, self.y[rows], self.gain, backward=not last)
            self.trace.count(self.rows[rows], forwards=1, backwards=0 if last else 1)
            self.trace.loss(self.rows[rows], values)
            best.update(rows, point, values, succeeded(z, self.y[rows], self.targeted))
            keep = ~best.won[rows] if self.stop_early else torch.ones_like(best.won[rows])
            if last or not bool(keep.any()):
                break
            rows, point, origin = rows[keep], point[keep], origin[keep]
            mean = 0.9 * mean[keep] + 0.1 * gradient[keep]
            square = 0.99 * square[keep] + 0.01 * gradient[keep] ** 2
            spread = (square / (1 - 0.99 ** (step + 1))).sqrt().clamp_min(1e-12)
            size = length * (1 + math.cos(math.pi * step / REFINE)) / 2
            point = project(point + size * mean / (1 - 0.9 ** (step + 1)) / spread, origin, self.eps, self.norm)
        self._take(best)

    def drop_far(self) -> None:
        """Give up the images that nothing has moved towards the boundary."""
        self._keep(self.pool.value.max(1).values > FAR * self.height)

    def drop_slow(self, brood: int, broods: int) -> None:
        """Give up the images whose margin does not close fast enough, after a number of broods that doubles."""
        if brood < PACED or brood & (brood - 1):
            return
        now = self.pool.value.max(1).values
        hope = now + SLACK * (now - self.before) * math.log2(broods / brood)
        self.before = now
        if brood > PACED:
            self._keep(hope > 0)

    def _drawn(self, count: int) -> Tensor:
        """Return random points of the ball, (b, count, C, H, W)."""
        return torch.stack([random_start(self.x, self.eps, self.norm, self.draws) for _ in range(count)], 1)

    def _ascend(self, starts: Tensor, labels: Tensor, aimed: bool, steps: int, length: float) -> None:
        """Ascend from starts (b, K, C, H, W), and keep what is found."""
        count = starts.shape[1]
        origin = self.x.repeat_interleave(count, 0)
        found = Best(origin)
        ascend(
            self.model, origin, labels.repeat_interleave(count), eps=self.eps, steps=steps, norm=self.norm,
            step_size=[length * size for size in gliding(self.eps, steps)], loss="margin", targeted=aimed,
            stop_early=self.stop_early, trace=Part(self.trace, self.rows.repeat_interleave(count)), best=found,
            start=project(starts.flatten(0, 1), origin, self.eps, self.norm),
        )  # fmt: skip
        self._take(found)

    def _take(self, found: Best) -> None:
        """Put what was found, K candidates of each image, into the pool; images that fell are searched no more."""
        count = len(found.x) // max(1, len(self.rows))
        mine = torch.arange(len(self.rows), device=self.rows.device) * count
        for candidate in range(count):
            at = mine + candidate
            self.pool.add(found.x[at], found.value[at])
            self.best.update(self.rows, found.x[at], found.value[at], found.won[at])
        self._keep(~self.best.won[self.rows])

    def _keep(self, chosen: Tensor) -> None:
        """Go on with the images chosen, bool (b,)."""
        if not self.stop_early or bool(chosen.all()):
            return
        self.rows, self.x, self.y, self.height = (held[chosen] for held in (self.rows, self.x, self.y, self.height))
        self.before = self.before[chosen]
        self.draws, self.pool = self.draws.select(chosen.nonzero().squeeze(1)), self.pool.select(chosen)


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

    def select(self, chosen: Tensor) -> Pool:
        """Return the pool of some of the images, bool (B,)."""
        part = object.__new__(Pool)
        part.x, part.value, part._rows = self.x[chosen], self.value[chosen], self._rows[: int(chosen.sum())]
        return part

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
