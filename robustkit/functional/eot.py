"""Expectation over transformation: what an attack is shown of a model that draws random numbers in each pass."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from robustkit.functional.batching import Batched


class Averaged(nn.Module):
    """A randomised model through the mean of several passes: x (B, C, H, W) to mean log-probabilities (B, L).

    The output is the mean over the passes of log_softmax(model(x)), Athalye et al. 2018, arXiv:1802.00420, section 5.1.
    The passes are made one after the other, since many a model draws once for a whole batch; with a gradient the
    graphs of all of them are in memory, so that a caller gives it a part of the rows that one pass could take. The
    model must draw independently in each pass; the draws of most come from torch's global generator.

    The rows do not sum to one as probabilities, so that the cross-entropy of this output is not the mean of the passes'
    cross-entropies: it adds the log of that sum. Attacks that compute their loss by
    :func:`robustkit.attacks._ascent.value_and_gradient` therefore look inside (:func:`drawn`) and average the losses.

    Parameters
    ----------
    model : nn.Module
        Returns logits or log-probabilities (B, L).
    draws : int
        Passes to average, at least 1.
    """

    def __init__(self, model: nn.Module, draws: int) -> None:
        super().__init__()
        if draws < 1:
            raise ValueError(f"{draws} draws cannot be averaged; give at least 1")
        self.model, self.draws = model, draws
        self.training = False  # this module's own flag alone: eval() would reach into the model

    def forward(self, x: Tensor) -> Tensor:
        """Return the mean log-probabilities (B, L)."""
        total = functional.log_softmax(self.model(x), -1)
        for _ in range(self.draws - 1):
            total = total + functional.log_softmax(self.model(x), -1)
        return total / self.draws


def drawn(model: Any) -> tuple[Any, int]:
    """Return the model that a single pass is of, without its wrappers, and how many passes are averaged."""
    inner = model.model if isinstance(model, Batched) else model
    return (inner.model, inner.draws) if isinstance(inner, Averaged) else (inner, 1)


def expectation(once: Callable[[], tuple[Tensor, Tensor, Tensor]], draws: int) -> tuple[Tensor, Tensor, Tensor]:
    """Return means over independent passes of the log-probabilities, the losses and the gradients that ``once`` gives.

    A single pass is returned as it is. Only one pass is in memory at a time.
    """
    if draws == 1:
        return once()
    passes = [once() for _ in range(draws)]
    z, values, gradients = (torch.stack(part) for part in zip(*passes, strict=True))
    return functional.log_softmax(z, -1).mean(0), values.mean(0), gradients.mean(0)
