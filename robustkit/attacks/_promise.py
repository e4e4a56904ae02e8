"""Which samples are not worth further restarts: those that several runs have hardly moved."""

from __future__ import annotations

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
    members, is more than a share of what it is on the clean image, no further run sees it. A pass of the clean and one
    of the best image is all that it costs, and each sample is judged by itself.

    Parameters
    ----------
    x, y : Tensor
        Clean images (B, C, H, W) and their labels (B,).
    share : float
        Of the clean margin; what has more is given up. 1 or more: nothing is.
    runs : int
        After how many runs it is looked.
    """

    def __init__(self, model: Model, x: Tensor, y: Tensor, share: float, runs: int, trace: Trace | None) -> None:
        self._model, self._x, self._y = model, x, y
        self._share, self._runs, self._trace = share, runs, trace
        self._hopeless = torch.zeros(len(x), dtype=torch.bool, device=x.device)

    def __call__(self, run: int, best: Best) -> Tensor:
        """Return which samples (B,) the run with this number, from 0 on, leaves alone."""
        if run == self._runs:
            rows = torch.nonzero(~best.won).squeeze(1)
            before, after = (self._margins(images[rows], self._y[rows]) for images in (self._x, best.x))
            if self._trace is not None:
                self._trace.count(rows, forwards=2)
            self._hopeless[rows] = after > self._share * before.clamp_min(TINY)
        return self._hopeless

    @torch.no_grad()
    def _margins(self, x: Tensor, y: Tensor) -> Tensor:
        single, _ = drawn(self._model)

        def compute(x: Tensor, y: Tensor) -> tuple[Tensor]:
            logits, _ = outputs(single, x)
            return (-torch.stack([margin(z, y) for z in logits]).mean(0),)

        return by_rows(self._model, compute, x, y)[0]
