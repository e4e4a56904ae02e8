"""What an attack did, sample by sample: queries and the course of its loss."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from robustkit.functional.batching import out_of_memory
from robustkit.functional.waits import waits


class Trace:
    """Per-sample counts of model passes, and the loss at each step of the first samples.

    Samples on a GPU are counted there, and nothing is read back before somebody asks.

    Parameters
    ----------
    size : int
        Samples in the batch.
    keep : int
        Of how many samples, from the first on, the loss history is kept.
    watch : callable, optional
        Called at each count, so that somebody who waits can be shown that the attack goes on.
    """

    def __init__(self, size: int, keep: int = 0, watch: Callable[[], None] | None = None) -> None:
        self._counts = torch.zeros((2, size), dtype=torch.int64)  # forwards and backwards, of rows that came on the CPU
        self._there: Tensor | None = None  # the same, of those that came on another device
        self.keep = min(keep, size)
        self._watch = watch
        self._losses: list[tuple[Tensor, Tensor | None]] = []  # of the kept samples, and whether anybody had one

    def count(self, rows: Tensor, forwards: int = 0, backwards: int = 0, standing: Tensor | None = None) -> None:
        """Add passes to the samples at ``rows``, or to those of them that are ``standing``.

        Rows are indices into the batch, each as often as it took part.
        """
        if waits(rows):
            if self._there is None:
                self._there = torch.zeros_like(self._counts, device=rows.device)
            one = torch.ones_like(rows) if standing is None else standing.to(torch.int64)
            for counts, passes in zip(self._there, (forwards, backwards), strict=True):
                if passes:
                    counts.index_add_(0, rows, one, alpha=passes)
        else:
            for counts, passes in zip(self._counts, (forwards, backwards), strict=True):
                counts.index_add_(0, rows, torch.ones_like(rows), alpha=passes)
        if self._watch is not None:
            self._watch()

    def loss(self, rows: Tensor, values: Tensor, standing: Tensor | None = None) -> None:
        """Note one step's loss (b,) of the samples at ``rows``, the highest of several; the others read NaN there.

        Nor is that of samples noted which are not ``standing``, nor a step at which nobody was.
        """
        if self.keep:
            values = values.detach().float()
            if standing is not None:
                values = values.masked_fill(~standing, float("-inf"))
            step = values.new_full((self.keep + 1,), float("nan"))  # the last one takes what is not kept
            step.scatter_reduce_(0, rows.clamp_max(self.keep), values, "amax", include_self=False)
            if standing is not None:
                step = step.masked_fill(step == float("-inf"), float("nan"))
            self._losses.append((step[: self.keep], None if standing is None else standing.any()))

    @property
    def forwards(self) -> Tensor:
        """Forward passes that each sample needed, int64 (B,), on the CPU."""
        return self._total(0)

    @property
    def backwards(self) -> Tensor:
        """Backward passes that each sample needed, int64 (B,), on the CPU."""
        return self._total(1)

    def _total(self, which: int) -> Tensor:
        return self._counts[which] if self._there is None else self._counts[which] + self._there[which].cpu()

    @property
    def history(self) -> Tensor:
        """The loss over the steps, float32 (keep, T), on the CPU."""
        if not self._losses:
            return torch.zeros(self.keep, 0)
        made = _read([step for step, _ in self._losses]).T
        known = [somebody for _, somebody in self._losses if somebody is not None]
        there = iter(_read(known).tolist() if known else [])
        return made[:, [somebody is None or next(there) for _, somebody in self._losses]]


def _read(rows: list[Tensor]) -> Tensor:
    """Return rows side by side on the CPU, read in one wait if the device has memory left for all of them."""
    try:
        return torch.stack(rows).cpu()
    except RuntimeError as error:
        if not out_of_memory(error):
            raise
    return torch.stack([row.cpu() for row in rows])
