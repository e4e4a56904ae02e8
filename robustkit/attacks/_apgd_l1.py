"""APGD in l1: sparse steps whose sparsity and length adapt, in a ball that narrows to eps."""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from torch import Tensor

from robustkit.attacks._apgd_run import Observer, State
from robustkit.attacks._ascent import Best
from robustkit.functional.norms import largest, per_sample, project, random_start, size
from robustkit.functional.sampling import SampleGenerator

PHASES = ((3.0, 0.3), (2.0, 0.3), (1.0, 0.4))  # radius in eps, share of the steps; section 3.2
PERIOD = 0.04  # of a phase's steps between two checkpoints
SPARSER, SHORTER, SHORTEST = 1.5, 1.5, 0.1  # share of the changed elements that is moved, step size, its least
STEADY = 0.95  # where fewer elements than this share are left, the step size is that of the start again


@dataclass
class SparseState(State):
    """A run in l1; the two more fields have one row per sample as well."""

    moved: Tensor  # how many elements a step moves
    changed: Tensor  # by how many elements the best point differed from x at the last checkpoint

    @classmethod
    def at(cls, rows: Tensor, origin: Tensor, y: Tensor, aim: Tensor, point: Tensor, eps: float) -> SparseState:
        """Return a run that begins at ``point`` (b, ...) and moves as many elements as differ from x there."""
        changed = size(point - origin, "l0")
        return cls(**vars(State.start(rows, origin, y, aim, point, eps)), moved=changed / SPARSER, changed=changed)


def narrowing(
    rows: Tensor, x: Tensor, y: Tensor, aim: Tensor, observer: Observer, eps: float, steps: int, draws: SampleGenerator
) -> None:
    """Run SAPGD in the balls of 3 eps, 2 eps and eps, each from the best point of the one before, projected.

    Croce and Hein 2021, arXiv:2103.01208, algorithm 1 and section 3.2. Only points of the last ball count. ``x`` are
    the images of the batch, ``y`` and ``aim`` the labels of those at ``rows``.
    """
    origin, left = x[rows], steps
    point = random_start(origin, PHASES[0][0] * eps, "l1", draws)
    for factor, share in PHASES:
        last = factor == PHASES[-1][0]
        length = left if last else min(left, round(share * steps))
        left -= length
        looking = observer if last else replace(observer, best=Best(x), stop_early=False)
        state = SparseState.at(rows, origin, y, aim, project(point, origin, factor * eps, "l1"), factor * eps)
        _climb(state, looking, factor * eps, length)
        point = state.top


def _climb(s: SparseState, observer: Observer, eps: float, steps: int) -> None:
    """Run algorithm 1 of the paper from ``s.point``."""
    observer.look(s, last=steps == 0)
    period = max(1, int(PERIOD * steps))
    for k in range(1, steps + 1):
        if len(s.rows) == 0:
            return
        s.previous = s.point
        s.point = project(s.point + per_sample(s.step, s.point) * _direction(s), s.origin, eps, "l1")
        observer.look(s, last=k == steps)
        if k % period == 0:
            _adapt(s, eps)


def _direction(s: SparseState) -> Tensor:
    """Return the step of l1 length 1: the signs of the gradient's largest elements, each with the same share."""
    flat = s.gradient.flatten(1)
    signs = flat.sign() * largest(flat.abs(), s.moved.clamp_min(1).ceil())
    return (signs / size(signs, "l0").clamp_min(1)[:, None]).view_as(s.gradient)


def _adapt(s: SparseState, eps: float) -> None:
    """Move fewer elements where the best point has become sparser, and begin anew from it; else take shorter steps."""
    changed = size(s.top - s.origin, "l0")
    sparser = changed < STEADY * s.changed
    s.step = torch.where(sparser, eps, (s.step / SHORTER).clamp_min(SHORTEST * eps))
    s.moved, s.changed = changed / SPARSER, changed
    wide = per_sample(sparser, s.point)
    s.point, s.gradient = torch.where(wide, s.top, s.point), torch.where(wide, s.top_gradient, s.gradient)
    s.value = torch.where(sparser, s.top_value, s.value)
