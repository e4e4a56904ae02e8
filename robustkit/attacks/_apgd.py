"""APGD, the ascent that sets its own step size: the one loop that its three losses share."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from robustkit.attacks._apgd_l1 import narrowing
from robustkit.attacks._apgd_run import Gain, Observer, State
from robustkit.attacks._ascent import PULL, Best, Generator, Model
from robustkit.attacks._parts import fork, forward, others
from robustkit.functional.losses import margin, succeeded
from robustkit.functional.norms import per_sample, project, random_start, steepest
from robustkit.functional.sampling import as_generator
from robustkit.functional.trace import Trace
from robustkit.functional.waits import Finite

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
            noise = fork(draws, rows, "start")
            observer = Observer(model, gain, score, best, targeted, stop_early, trace, finite)
            if norm == "l1":
                narrowing(rows, x, y[rows], aims[rows, column], observer, eps, steps, noise)
                continue
            point = random_start(x[rows], eps, norm, noise)
            state = State.start(rows, x[rows], y[rows], aims[rows, column], point, 2 * eps)
            _climb(state, observer, eps, norm, steps, rho)
    return best.x


def _climb(s: State, observer: Observer, eps: float, norm: str, steps: int, rho: float) -> None:
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
