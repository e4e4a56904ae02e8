"""Working on some samples of a batch: their own random streams, their rows in the trace, their plain outputs."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from robustkit.functional.sampling import SampleGenerator
from robustkit.functional.trace import Trace


def fork(draws: SampleGenerator, rows: Tensor, stream: str) -> SampleGenerator:
    """Return fresh streams for the samples at ``rows``, independent of what the other samples go on to draw.

    One number is drawn from every sample's stream, whoever still stands, and becomes the identity of the new one.
    """
    return SampleGenerator(0, draws.bits((), device=rows.device)[rows], stream)


class Part(Trace):
    """The trace of a part of a batch, which writes into the trace of the whole.

    Parameters
    ----------
    whole : Trace
        Of the whole batch.
    rows : Tensor of int64, shape (b,)
        Where the samples of the part are in the batch.
    """

    def __init__(self, whole: Trace, rows: Tensor) -> None:
        super().__init__(0)
        self._whole, self._rows = whole, rows

    def count(self, rows: Tensor, forwards: int = 0, backwards: int = 0, standing: Tensor | None = None) -> None:
        """Add passes to the samples at ``rows`` of the part."""
        self._whole.count(self._rows[rows], forwards, backwards, standing)

    def loss(self, rows: Tensor, values: Tensor, standing: Tensor | None = None) -> None:
        """Note one step's loss of the samples at ``rows`` of the part."""
        self._whole.loss(self._rows[rows], values, standing)


def others(z: Tensor, y: Tensor) -> Tensor:
    """Return every class but the label, the most likely first, int64 (B, L - 1)."""
    order = z.scatter(1, y[:, None], float("-inf")).argsort(dim=1, descending=True, stable=True)
    return order[:, :-1]


@torch.no_grad()
def forward(
    model: Callable[[Tensor], Tensor], x: Tensor, rows: Tensor, trace: Trace, standing: Tensor | None = None
) -> Tensor:
    """Return the model's output on x (b, ...), counted for the samples at ``rows``, or those that are ``standing``."""
    trace.count(rows, forwards=1, standing=standing)
    return model(x)
