"""The logarithm of the ensemble diversity of stored member logits."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from robustkit.defenses._terms import log_ensemble_diversity

Floats = npt.NDArray[np.floating[Any]]


def log_ed(member_logits: Floats, labels: npt.NDArray[np.int64]) -> Floats:
    """Return log ED (N,) of member logits (M, N, L) with respect to labels (N,), in float64.

    Confident members leave 1e-10 and less to the other classes, which float32 would round before they are normalised.
    """
    logits = torch.from_numpy(np.asarray(member_logits, np.float64))
    values: Floats = log_ensemble_diversity(logits.softmax(2), torch.from_numpy(np.asarray(labels, np.int64))).numpy()
    return values
