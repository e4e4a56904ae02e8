"""The best subset of some candidates on validation data."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch

from robustkit.data import Split
from robustkit.ensembles.ensemble import Ensemble
from robustkit.metrics import subsets
from robustkit.training.spec import TrainSpec

Logits = npt.NDArray[np.float32]
Labels = npt.NDArray[np.int64]
MOST, BATCH = 200_000, 512  # subsets that are scored; of more, that many drawn at random


@dataclass(frozen=True)
class Choice:
    """The candidates that were chosen, by index, their fused accuracy, and out of how many subsets."""

    subset: tuple[int, ...]
    accuracy: float
    subsets: int


@torch.no_grad()
def logits(ensemble: Ensemble, split: Split) -> Logits:
    """Return the member logits on a split, (M, N, L)."""
    device = next(ensemble.parameters()).device
    rows = torch.split(torch.arange(len(split)), BATCH)
    return torch.cat([ensemble.eval().member_logits(split.batch(r)[1].to(device)).cpu() for r in rows], 1).numpy()


def best(candidates: Sequence[Ensemble], validation: Split, members: int, fusion: str | None, seed: int) -> Choice:
    """Return the subset of ``members`` candidates of highest fused accuracy; of equals the one of least cross-entropy.

    Every subset is scored (EdgeNES 2.3), by :mod:`robustkit.metrics.subsets`.
    """
    found = np.concatenate([logits(one, validation) for one in candidates])
    y = validation.y.numpy()
    if members == 1:
        own = (found.argmax(2) == y).mean(1)
        return Choice(_least_loss(found, y, np.flatnonzero(own == own.max())[:, None]), float(own.max()), len(own))
    every = subsets.choose(len(found), members, MOST, seed)
    rule = fusion if fusion in subsets.RULES else TrainSpec.fusion
    accuracy = subsets.score(found, y, every).accuracy[rule]
    tied = every[accuracy == accuracy.max()]
    return Choice(_least_loss(found, y, tied), float(accuracy.max()), len(every))


def _least_loss(found: Logits, y: Labels, tied: Labels) -> tuple[int, ...]:
    """Return the subset whose mean probability has the least cross-entropy."""
    shifted = np.exp(found.astype(np.float64) - found.max(2, keepdims=True))
    right = np.take_along_axis(shifted, y[None, :, None], 2)[..., 0] / shifted.sum(2)
    losses = [-np.log(np.maximum(right[list(subset)].mean(0), 1e-300)).mean() for subset in tied]
    return tuple(int(at) for at in tied[int(np.argmin(losses))])
