"""Target labels of targeted attacks: random (seeded), least-likely, next-best, or given."""

from __future__ import annotations

import torch
from torch import Tensor

from robustkit.functional.sampling import random_targets


def target_labels(rule: str, seed: int, ids: Tensor, y: Tensor, fused: Tensor) -> Tensor:
    """Return the label that each sample is to be taken for, int64 (N,).

    Parameters
    ----------
    rule : str
        ``random`` (seed and sample id), ``least-likely`` or ``next-best`` (of the wrong labels, on the clean image), or
        the number of one label for all; a sample of that label gets -1: it has no target.
    fused : Tensor
        Clean fused log-probabilities (N, L).
    """
    if rule == "random":
        return random_targets(seed, ids, y, fused.shape[1])
    if rule in ("least-likely", "next-best"):
        own = torch.zeros_like(fused, dtype=torch.bool).scatter_(1, y[:, None], True)
        if rule == "least-likely":
            return fused.masked_fill(own, float("inf")).argmin(1)
        return fused.masked_fill(own, float("-inf")).argmax(1)
    return torch.where(y == int(rule), -1, int(rule))
