"""The smallest success of each sample, and the samples that are still attacked: what C&W and EAD keep in any search."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from robustkit.attacks._ascent import Model, value_and_gradient
from robustkit.attacks._boundary import Nearest, gap, refine
from robustkit.attacks._last import shortest
from robustkit.attacks._parts import forward
from robustkit.base.errors import UserError
from robustkit.functional.losses import succeeded
from robustkit.functional.norms import size
from robustkit.functional.trace import Trace
from robustkit.functional.waits import Finite, put

REFINEMENTS = 2  # steps of the last search between x and a result


class Successes:
    """The smallest success of each sample, and the working set of those that were not won from the start.

    Nothing is shared between samples, so that no result depends on the batch.

    Parameters
    ----------
    confidence : float
        kappa: by how much (in logits) the margin must be won for a success to be a sure one.

    Attributes
    ----------
    rows : Tensor of int64, shape (b,)
        The working set, as indices into the batch. The tensors below have one row for each of them.
    origin, labels : Tensor
        Images and labels.
    best : Tensor, shape (B, C, H, W)
        The smallest success of each sample; x where there is none. One that reaches the confidence goes before one
        that does not.
    """

    _PER_SAMPLE: tuple[str, ...] = ("rows", "origin", "labels")

    def __init__(
        self, model: Model, x: Tensor, y: Tensor, *, confidence: float, targeted: bool, trace: Trace | None
    ) -> None:
        self.model, self.targeted, self.confidence = model, targeted, confidence
        self.trace = trace or Trace(len(x))
        self._x, self.best = x.detach(), x.detach().clone()
        self._best_size = x.new_full((len(x),), float("inf"))
        self._best_tier = torch.zeros(len(x), dtype=torch.int64, device=x.device)
        z = forward(model, self.best, torch.arange(len(x), device=x.device), self.trace)
        self._all_labels, self._start = y, gap(z, y, targeted)
        self.rows = torch.nonzero(~succeeded(z, y, targeted)).squeeze(1)
        self.origin, self.labels = self.best[self.rows], y[self.rows]
        self._finite = Finite()

    def look(self, point: Tensor, gain: Callable[[Tensor, Tensor], Tensor] | None = None) -> tuple[Tensor, ...]:
        """Return logits (b, L), gap h (b,) and its gradient at images ``point`` (b, C, H, W), or those of a ``gain``.

        h = max_{i != y} z_i - z_y - confidence, or targeted z_y - max_{i != y} z_i - confidence.
        """
        z, height, gradient = value_and_gradient(
            self.model, point, self.labels, gain or self._height, backward=True, finite=self._finite
        )
        self.trace.count(self.rows, forwards=1, backwards=1)
        self.trace.loss(self.rows, -height)
        return z, height, gradient

    def _height(self, z: Tensor, y: Tensor) -> Tensor:
        return gap(z, y, self.targeted) - self.confidence

    @property
    def best_size(self) -> Tensor:
        """Distortion of the best success of each sample of the working set, (b,); infinite where there is none."""
        return self._best_size[self.rows]

    @property
    def sure(self) -> Tensor:
        """Which samples of the working set have a success that reaches the confidence, bool (b,)."""
        return self._best_tier[self.rows] == 2

    def offer(self, point: Tensor, size: Tensor, z: Tensor, at: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Keep those of the images that succeed with less distortion ``size`` than any before.

        ``at`` says which rows of the working set the images belong to; None: all of them. Returned are which images
        succeed and reach the confidence, and which are kept, bool (b,) both.
        """
        rows, labels = (self.rows, self.labels) if at is None else (self.rows[at], self.labels[at])
        won = succeeded(z, labels, self.targeted)
        sure = won if self.confidence <= 0 else won & (self._height(z, labels) >= 0)
        tier = won.long() + sure
        held = self._best_tier[rows]
        better = (tier > held) | ((tier == held) & won & (size < self._best_size[rows]))
        put(rows, better, (self.best, point), (self._best_size, size), (self._best_tier, tier))
        return sure, better

    def keep(self, at: Tensor) -> None:
        """Go on with the rows ``at`` (int64) of the working set alone."""
        for name in self._PER_SAMPLE:
            setattr(self, name, getattr(self, name)[at])

    def refined(self, norm: str, *, plane: bool = True) -> Tensor:
        """Return the results, made smaller in a last search where no confidence was asked for.

        With ``plane`` see :func:`~robustkit.attacks._last.shortest`, otherwise the line to x alone is searched, along
        which every norm shrinks. No result gets larger in ``norm``.
        """
        self._finite.settle()
        if self.confidence > 0 or len(self.best) == 0:
            return self.best
        nearest = Nearest(self._x, self._all_labels, norm, self.targeted)
        nearest.x = self.best
        found = torch.isfinite(self._best_size)
        nearest.distance = torch.where(found, size(self.best - self._x, norm), nearest.distance)
        search = shortest if plane else refine
        search(self.model, nearest, self._start, REFINEMENTS, self.trace)
        return nearest.x


def positive(**given: float) -> None:
    """Raise a :class:`UserError` for the first number that is not above 0."""
    for name, value in given.items():
        if not value > 0:
            raise UserError(f"{name} = {value:g} is out of range: give a number above 0.")
