"""A run of APGD: where each of its samples is, and who looks at the points; the loops of all norms share them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, fields

import torch
from torch import Tensor

from robustkit.attacks._ascent import Best, Model, value_and_gradient
from robustkit.functional.losses import succeeded
from robustkit.functional.norms import per_sample
from robustkit.functional.trace import Trace
from robustkit.functional.waits import Finite, Looks

Gain = Callable[[Tensor, Tensor, Tensor], Tensor]  # z (b, L), y (b,), aim (b,) -> what to maximise (b,)


@dataclass
class State:
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
    def start(cls, rows: Tensor, origin: Tensor, y: Tensor, aim: Tensor, point: Tensor, step: float) -> State:
        """Return a run that begins at ``point`` (b, ...) with steps of that length; all tensors are of its samples."""
        zero = torch.zeros_like(origin)
        low = origin.new_full((len(rows),), float("-inf"))
        return cls(
            rows=rows, origin=origin, y=y, aim=aim, point=point, previous=point, value=low, gradient=zero,
            top=point, top_value=low, top_gradient=zero, step=torch.full_like(low, step),
            rises=torch.zeros_like(low), checked=low, halved=torch.zeros_like(rows, dtype=torch.bool),
        )  # fmt: skip

    def keep(self, rows: Tensor) -> None:
        """Go on with some samples alone."""
        for one in fields(self):
            setattr(self, one.name, getattr(self, one.name)[rows])


@dataclass
class Observer:
    """Evaluates the points of a run and notes what is best; drops the samples that are done."""

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

    def look(self, s: State, *, last: bool) -> None:
        """Evaluate the points of a run, with their gradients unless they are the ``last``."""
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
