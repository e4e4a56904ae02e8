"""The fixed ways in which samples are divided into splits, and sources made of the parts that data comes in."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor

from robustkit.base.errors import UserError
from robustkit.data._facts import EVERYTHING, Source
from robustkit.data._samples import Pixels, Split

SEED = 0  # of every division: changing it changes every published number


def holdout(labels: Tensor, ids: Tensor, n: int) -> tuple[Tensor, Tensor]:
    """Divide ``ids`` into the rest and ``n`` held out, in fixed pseudo-random order.

    Stratified by label; where a class has too few members for that, plainly at random.

    Parameters
    ----------
    labels : Tensor
        Labels of the source, int64 (S,).
    ids : Tensor
        The samples to divide, int64 (N,), with ``0 < n < N``.
    n : int
        How many to hold out.
    """
    from sklearn.model_selection import train_test_split  # a second, which data with divisions of its own need not pay

    if not 0 < n < len(ids):
        raise UserError(f"a dataset of {len(ids)} samples is too small to hold {n} out; it must have more than {n}.")
    counts = torch.unique(labels[ids], return_counts=True)[1]
    stratify = labels[ids].numpy() if counts.min() >= 2 and min(n, len(ids) - n) >= len(counts) else None
    rest, held = train_test_split(ids.numpy(), test_size=n, random_state=SEED, stratify=stratify)
    return torch.from_numpy(rest), torch.from_numpy(held)


def mixed(labels: Tensor) -> Tensor:
    """Return all ids, int64 (S,): as they are, or shuffled where they come class by class, as in a folder.

    The first n of a class-sorted source would all be of one class, and a robust accuracy of these means little.
    """
    runs, classes = int((labels[1:] != labels[:-1]).sum()) + 1, len(torch.unique(labels))
    if runs > classes or classes == len(labels):
        return torch.arange(len(labels))
    from sklearn.utils import shuffle  # a second, which data that comes mixed need not pay

    order: np.ndarray[Any, np.dtype[np.int64]] = shuffle(np.arange(len(labels)), random_state=SEED)
    return torch.from_numpy(order)


def thirds(labels: Tensor) -> dict[str, Tensor]:
    """Divide all samples into train (70 %), validation (10 %) and test (20 %): ids by split, stratified as can be."""
    n = len(labels)
    if n < 3:
        raise UserError(f"a dataset of {n} samples cannot be divided into train, validation and test; give at least 3.")
    rest, test = holdout(labels, torch.arange(n), max(1, round(0.2 * n)))
    train, validation = holdout(labels, rest, max(1, round(0.1 * n)))
    return {"train": train, "validation": validation, "test": test}


Part = Callable[[], tuple[Pixels, Tensor]]


def at_hand(pixels: Pixels, labels: Tensor) -> Part:
    """Return the part that these pixels and labels, which are in memory already, are."""
    return lambda: (pixels, labels)


def source(
    parts: Mapping[str, Part], *, classes: tuple[str, ...], shape: tuple[int, int, int], notes: tuple[str, ...] = ()
) -> Source:
    """Make a source of the parts that the data comes in.

    Parameters
    ----------
    parts : mapping of str to callable
        Either ``everything`` alone, or ``train``, ``test`` and perhaps ``validation``; each returns pixels and labels
        and is called when a split needs it. Without a validation part, 10 % of train (at most 5,000) are held out.
    classes, shape, notes
        As in :class:`Source`.
    """

    def read(name: str) -> Split:
        if EVERYTHING in parts:
            pixels, labels = parts[EVERYTHING]()
            return Split(pixels, labels, mixed(labels) if name == EVERYTHING else thirds(labels)[name])
        if name == "test" or "validation" in parts:
            pixels, labels = parts[name]()
            return Split(pixels, labels, mixed(labels))
        pixels, labels = parts["train"]()
        train, validation = holdout(labels, torch.arange(len(labels)), max(1, min(5000, len(labels) // 10)))
        return Split(pixels, labels, train if name == "train" else validation)

    return Source(classes, shape, read, EVERYTHING in parts, notes)
