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
# Of the images that a constant answer gets wrong: what a model has to get right, more than one that never learnt by
# accident telling dark images from bright ones; and what a renaming has to, which is fitted to such accidents.
FAINT, SOME = 0.15, 0.25
# Of the same: what a model has to get right before its accuracy says how it was trained. One that learnt little, or to
# resist attacks above all, is often clearly more accurate on images that were prepared otherwise.
MUCH = 2 / 3
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
    """Return whether right answers (n,), the most of ``among`` tries, are clearly more than one constant answer's.

    That is by more than chance explains, and by more than happens to a model that never learnt.
    """
    constant = float(np.bincount(labels).max()) / len(labels)
    much = float(right.mean()) - constant > FAINT * (1 - constant)
    return much and binomial_tail(int(right.sum()), len(right), constant) < LEVEL / among


def learnt(right: Bools, labels: Labels) -> bool:
    """Return whether right answers (n,) to images with these labels are enough to tell how it was trained."""
    constant = float(np.bincount(labels).max()) / len(labels)
    return float(right.mean()) - constant >= MUCH * (1 - constant)


def renames(renamed: Bools, plain: Bools, labels: Labels) -> bool:
    """Return whether answers that are right under a renaming (n,) prove one: against the data's order and a constant.

    Any model that tells two classes apart by accident gains by some renaming, so it has to gain by much.
    """
    constant = float(np.bincount(labels).max()) / len(labels)
    much = float(renamed.mean()) - constant > SOME * (1 - constant)
    return much and better(renamed, plain) < LEVEL and gains(renamed, labels)


def at_chance(right: Bools, labels: Labels, among: int = 1) -> bool:
    """Return whether right answers (n,) are no more than a constant answer's, where all of n right would be."""
    labels = labels[: len(right)]
    return gains(np.ones_like(right), labels, among) and not gains(right, labels, among)


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
