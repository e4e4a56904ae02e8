"""Which samples are not worth further restarts: those that several runs have hardly moved."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from robustkit.attacks._ascent import Best, Model
from robustkit.attacks._members import TINY, outputs
from robustkit.functional.batching import by_rows
from robustkit.functional.eot import drawn
from robustkit.functional.losses import margin
from robustkit.functional.trace import Trace


class Unpromising:
    """Gives up, before one of the runs of an ascent, what the runs before it have left too far from the boundary.

    Of each sample that stands its best iterate is looked at: where the margin z_y - max_{i != y} z_i, mean over the
    members, is more than a share of what it is on the clean image, no further run sees it. Each member's margin counts
    by the standard deviation of its logits on the clean image, so that none speaks for all because its logits are
    large. A pass of the clean image, once, and one of the best at each look is all that it costs, and each sample is
    judged by itself.

    Parameters
    ----------
    x, y : Tensor
        Clean images (B, C, H, W) and their labels (B,).
    shares : mapping of int to float
        After how many runs it is looked, and the share of the clean margin above which a sample is given up then.
    """

    def __init__(self, model: Model, x: Tensor, y: Tensor, shares: Mapping[int, float], trace: Trace | None) -> None:
        self._model, self._x, self._y, self._shares, self._trace = model, x, y, shares, trace
        self._hopeless = torch.zeros(len(x), dtype=torch.bool, device=x.device)
        self._clean: tuple[Tensor, Tensor] | None = None  # members' margins and spreads on the clean images

    def __call__(self, run: int, best: Best) -> Tensor:
        """Return which samples (B,) the run with this number, from 0 on, leaves alone."""
        if run in self._shares:
            rows = torch.nonzero(~best.won & ~self._hopeless).squeeze(1)
            if self._clean is None:  # who stands at a later look stands now
                self._clean = self._look(rows, self._x)
            (clean, spread), (left, _) = self._clean, self._look(rows, best.x)
            before, after = ((margins / spread.clamp_min(TINY)).mean(1) for margins in (clean, left))
            self._hopeless |= after > self._shares[run] * before.clamp_min(TINY)
        return self._hopeless

    def _look(self, rows: Tensor, images: Tensor) -> tuple[Tensor, Tensor]:
        """Return members' margins and spreads (B, M) of the images at rows, elsewhere 0, and count a pass of each."""
        if self._trace is not None:
            self._trace.count(rows, forwards=1)
        margins, spreads = (
            value.new_zeros(len(images), value.shape[1]).index_put((rows,), value)
            for value in self._seen(images[rows], self._y[rows])
        )
        return margins, spreads

    @torch.no_grad()
    def _seen(self, x: Tensor, y: Tensor) -> tuple[Tensor, ...]:
        single, _ = drawn(self._model)

        def compute(x: Tensor, y: Tensor) -> tuple[Tensor, ...]:
            logits, _ = outputs(single, x)
            return -torch.stack([margin(z, y) for z in logits], 1), logits.std(-1).T

        return by_rows(self._model, compute, x, y)
