"""APGD, the ascent that sets its own step size: the one loop that its three losses share."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field, fields

import torch
from torch import Tensor

from robustkit.attacks._ascent import PULL, Best, Generator, Model, value_and_gradient
from robustkit.attacks._parts import fork, forward, others
from robustkit.functional.losses import margin, succeeded
from robustkit.functional.norms import per_sample, project, random_start, steepest
from robustkit.functional.sampling import SampleGenerator, as_generator
from robustkit.functional.trace import Trace
from robustkit.functional.waits import Finite, Looks

Gain = Callable[[Tensor, Tensor, Tensor], Tensor]  # z (b, L), y (b,), aim (b,) -> what to maximise (b,)

FIRST, SHORTER, SHORTEST = 0.22, 0.03, 0.06  # first period, by how much each is shorter, the shortest


def checkpoints(steps: int) -> list[int]:
    """Return the iterations at which the step size may be halved: w_j = ceil(p_j * steps), section 3.2.

    p_0 = 0, p_1 = 0.22, p_{j+1} = p_j + max(p_j - p_{j-1} - 0.03, 0.06).
    """
    before, now, found = 0.0, FIRST, []
    while now < 1.0:
        found.append(math.ceil(round(now * steps, 9)))
        before, now = now, now + max(round(now - before - SHORTER, 9), SHORTEST)
    return sorted({k for k in found if k < steps})


def apgd(
    model: Model,
    x: Tensor,
    y: Tensor,
    *,
    eps: float,
    norm: str,
    steps: int,
    restarts: int,
    rho: float,
    gain: Gain,
    targets: int,
    targeted: bool,
    stop_early: bool,
    generator: Generator,
    trace: Trace | None,
) -> Tensor:
    """Return the best iterate of all runs, x_adv (B, C, H, W).

    With ``targets`` each restart is one run against each of that many most likely other classes, which ``gain``
    gets as its aim; with 0 it is one run, and the aim is y. A success beats any failure; among equals the higher gain
    counts, or, where runs have different aims, the higher margin.
    """
    x = x.detach()
    best, trace, draws = Best(x), trace or Trace(len(x)), as_generator(generator, x)
    every = torch.arange(len(x), device=x.device)
    z = forward(model, x, every, trace)
    aims = others(z, y)[:, :targets] if targets else y[:, None]

    def score(z: Tensor, y: Tensor, values: Tensor) -> Tensor:
        return margin(z, y) if targets else values

    best.update(every, x, score(z, y, gain(z, y, aims[:, 0])), succeeded(z, y, targeted))
    with Finite() as finite:
        for column in [*range(aims.shape[1])] * restarts:
            rows = torch.nonzero(~best.won).squeeze(1) if stop_early else every
            if len(rows) == 0:
                break
            state = _State.start(rows, x, y, aims[:, column], eps, norm, fork(draws, rows, "start"))
            observer = _Observer(model, gain, score, best, targeted, stop_early, trace, finite)
            _climb(state, observer, eps, norm, steps, rho)
    return best.x


@dataclass
class _State:
    """Where each sample of a run is; every field has one row per sample still in the run."""

    rows: Tensor
    origin: Tensor
    y: Tensor
    aim: Tensor
    point: Tensor  # x_k
    previous: Tensor  # x_{k-1}
    value: Tensor  # f(x_k)
    gradient: Tensor
    top: Tensor  # x_max
    top_value: Tensor
    top_gradient: Tensor
    step: Tensor  # step size
    rises: Tensor  # how often f rose since the last checkpoint
    checked: Tensor  # top_value at the last checkpoint
    halved: Tensor  # whether the step size was halved there

    @classmethod
    def start(
        cls, rows: Tensor, x: Tensor, y: Tensor, aim: Tensor, eps: float, norm: str, draws: SampleGenerator
    ) -> _State:
        origin = x[rows]
        point = random_start(origin, eps, norm, draws)
        zero = torch.zeros_like(origin)
        low = origin.new_full((len(rows),), float("-inf"))
        return cls(
            rows=rows, origin=origin, y=y[rows], aim=aim[rows], point=point, previous=point, value=low, gradient=zero,
            top=point, top_value=low, top_gradient=zero, step=torch.full_like(low, 2 * eps),
            rises=torch.zeros_like(low), checked=low, halved=torch.zeros_like(rows, dtype=torch.bool),
        )  # fmt: skip

    def keep(self, rows: Tensor) -> None:
        for one in fields(self):
            setattr(self, one.name, getattr(self, one.name)[rows])


@dataclass
class _Observer:
    """Evaluates the points of one run and notes what is best; drops the samples that are done."""

    model: Model
    gain: Gain
    score: Callable[[Tensor, Tensor, Tensor], Tensor]
    best: Best
    targeted: bool
    stop_early: bool
    trace: Trace
    finite: Finite
    looks: Looks = field(default_factory=Looks)
    standing: Tensor | None = None  # which rows are not done; None: all

    def look(self, s: _State, *, last: bool) -> None:
        z, values, gradient = value_and_gradient(
            self.model, s.point, s.y, self.gain, s.aim, backward=not last, finite=self.finite, standing=self.standing
        )
        self.trace.count(s.rows, forwards=1, backwards=0 if last else 1, standing=self.standing)
        self.trace.loss(s.rows, values, self.standing)
        self.best.update(s.rows, s.point, self.score(z, s.y, values), succeeded(z, s.y, self.targeted), self.standing)
        if last:
            return
        values = values.to(s.value.dtype)
        s.rises = s.rises + (values > s.value)
        higher = values > s.top_value
        wide = per_sample(higher, s.point)
        s.value, s.gradient = values, gradient
        s.top_value = torch.where(higher, values, s.top_value)
        s.top, s.top_gradient = torch.where(wide, s.point, s.top), torch.where(wide, gradient, s.top_gradient)
        if self.stop_early:
            keep, self.standing = self.looks.leave(~self.best.won[s.rows])
            if keep is not None:
                s.keep(keep)


def _climb(s: _State, observer: _Observer, eps: float, norm: str, steps: int, rho: float) -> None:
    """Run algorithm 1 of the paper from ``s.point``."""
    observer.look(s, last=steps == 0)
    s.checked, s.rises = s.top_value, torch.zeros_like(s.rises)
    turns, turned = set(checkpoints(steps)), 0
    for k in range(1, steps + 1):
        if len(s.rows) == 0:
            return
        pull = PULL if k > 1 else 1.0
        ahead = project(s.point + per_sample(s.step, s.point) * steepest(s.gradient, norm), s.origin, eps, norm)
        ahead = s.point + pull * (ahead - s.point) + (1 - pull) * (s.point - s.previous)
        s.previous, s.point = s.point, project(ahead, s.origin, eps, norm)
        observer.look(s, last=k == steps)
        if k in turns:
            s.halved = (s.rises < rho * (k - turned)) | (~s.halved & (s.top_value <= s.checked))  # conditions 1, 2
            wide = per_sample(s.halved, s.point)
            s.step = torch.where(s.halved, s.step / 2, s.step)
            s.point, s.gradient = torch.where(wide, s.top, s.point), torch.where(wide, s.top_gradient, s.gradient)
            s.value = torch.where(s.halved, s.top_value, s.value)
            s.checked, s.rises, turned = s.top_value, torch.zeros_like(s.rises), k
