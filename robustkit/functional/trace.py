"""What an attack did, sample by sample: queries and the course of its loss."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor


class Trace:
    """Per-sample counts of model passes, and the loss at each step of the first samples.

    Parameters
    ----------
    size : int
        Samples in the batch.
    keep : int
        Of how many samples, from the first on, the loss history is kept.
    watch : callable, optional
        Called at each count, so that somebody who waits can be shown that the attack goes on.

    Attributes
    ----------
    forwards, backwards : Tensor of int64, shape (B,)
        Passes of the model that each sample took part in.
    """

    def __init__(self, size: int, keep: int = 0, watch: Callable[[], None] | None = None) -> None:
        self.forwards = torch.zeros(size, dtype=torch.int64)
        self.backwards = torch.zeros(size, dtype=torch.int64)
        self.keep = min(keep, size)
        self._watch = watch
        self._losses: list[Tensor] = []

    def count(self, rows: Tensor, forwards: int = 0, backwards: int = 0) -> None:
        """Add passes to the samples at ``rows`` (indices into the batch, each as often as it took part)."""
        rows = rows.cpu()
        self.forwards.index_add_(0, rows, torch.full_like(rows, forwards))
        self.backwards.index_add_(0, rows, torch.full_like(rows, backwards))
        if self._watch is not None:
            self._watch()

    def loss(self, rows: Tensor, values: Tensor) -> None:
        """Note one step's loss (b,) of the samples at ``rows``, the highest of several; the others read NaN there."""
        if self.keep:
            rows, values = rows.cpu(), values.detach().float().cpu()
            kept = rows < self.keep
            step = torch.full((self.keep,), float("nan"))
            step.scatter_reduce_(0, rows[kept], values[kept], "amax", include_self=False)
            self._losses.append(step)

    @property
    def history(self) -> Tensor:
        """The loss over the steps, float32 (keep, T)."""
        return torch.stack(self._losses, 1) if self._losses else torch.zeros(self.keep, 0)
