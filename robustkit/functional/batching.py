"""Many samples through a model a batch at a time, with smaller batches where memory runs out.

An attack works on a pool of samples, larger than a batch. As samples leave it the rest moves up, so that the model's
batches stay full to the end, and when memory runs out only one batch is computed again, not the attack.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn


class Batched(nn.Module):
    """A model that computes at most ``size`` samples at a time where no gradient is asked for.

    Where one is, its caller goes through :func:`by_rows`, which keeps the graph of one batch alone in memory.
    """

    def __init__(self, model: nn.Module, size: int) -> None:
        super().__init__()
        self.model = model
        self.size = size

    def forward(self, x: Tensor) -> Tensor:
        """Return the model's output on x (B, C, H, W)."""
        if torch.is_grad_enabled() and x.requires_grad:
            output: Tensor = self.model(x)
            return output
        return by_rows(self, lambda part: (self.model(part),), x)[0]


def by_rows(model: object, function: Callable[..., tuple[Tensor, ...]], *rows: Tensor) -> tuple[Tensor, ...]:
    """Return what a function of samples gives, computed in even batches that ``model``, if :class:`Batched`, can take.

    Parameters
    ----------
    function : callable
        Takes tensors of one row per sample and returns such tensors; each row depends on its own alone.
    rows : Tensor
        Of N rows each.
    """
    n = len(rows[0])
    if not isinstance(model, Batched):
        return function(*rows)
    parts: list[tuple[Tensor, ...]] = []
    done = 0
    while done < n or not parts:
        left = n - done
        take = -(-left // max(1, -(-left // model.size)))  # as many as the other batches that are to come
        try:
            parts.append(function(*(tensor[done : done + take] for tensor in rows)))
        except torch.OutOfMemoryError:
            if take <= 1:
                raise
            model.size = (take + 1) // 2
            continue
        done += take
    if len(parts) == 1:
        return parts[0]
    return tuple(torch.cat(part) for part in zip(*parts, strict=True))
