"""Which of two ways to run a model is right on more images, as far as so many images can prove; and what labels tell.

Everything here is about which of n images a model classifies right, (n,), and about their labels.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from robustkit.auditing.adapting import Preprocessing
from robustkit.functional.stats import binomial_tail

LEVEL = 0.01  # chance of one false proof among all that are tried
KIN = 1.6  # times the contrast of another: what a network that was trained to resist often likes better than its own
Bools = npt.NDArray[np.bool_]
Labels = npt.NDArray[Any]


def telling(y: Tensor) -> Tensor:
    """Return the rows (n,) of images whose labels (N,) can tell a good model from one that always says the same.

    All of them, unless more than half share a label: then as many of that label, the first, as there are others. So a
    constant answer is right on half of them at most. None where all share one label.
    """
    counts = torch.bincount(y.cpu())
    commonest = int(counts.argmax())
    others = len(y) - int(counts[commonest])
    ours = y.cpu() == commonest
    return torch.nonzero(~ours | (ours.cumsum(0) <= others)).flatten()


def better(first: Bools, second: Bools) -> float:
    """Return the p of the paired test that the first is right on more of the images than the second, (n,) each."""
    wins, losses = int((first & ~second).sum()), int((second & ~first).sum())
    return binomial_tail(wins, wins + losses, 0.5)


def gains(right: Bools, labels: Labels, among: int = 1) -> bool:
    """Return whether so many right answers (n,), the most of ``among`` tries, are more than one constant answer's."""
    constant = np.bincount(labels).max() / len(labels)
    return binomial_tail(int(right.sum()), len(right), float(constant)) < LEVEL / among


def contrast(how: Preprocessing) -> float:
    """Return by how much a preprocessing stretches the differences of pixels, the mean over channels."""
    return how.scale / float(np.mean(how.std))


def differ_in_contrast(one: Preprocessing, other: Preprocessing) -> bool:
    """Return whether two ways differ in contrast, by little, and hardly in anything else."""
    ratio = contrast(one) / contrast(other)
    return one.order == other.order and one != other and 1 / KIN <= ratio <= KIN


def with_contrast_of(one: Preprocessing, other: Preprocessing) -> Preprocessing:
    """Return the first way with the contrast of the other: what a scale alone makes of it."""
    return replace(one, scale=one.scale * contrast(other) / contrast(one))
