"""The images that were attacked, kept once for a study: what a perturbation is the difference from.

An attack's cell keeps how what it made differs from the image, and never the image itself. Never imports torch.
"""

from __future__ import annotations

from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from robustkit.records.cells import Facts, images_of
from robustkit.records.store import Store

BYTES = 64 << 20  # that the images of a study may take: 21,845 of CIFAR, 445 of 224x224 pixels


class _Split(Protocol):
    """What is read of a :class:`robustkit.data.Split`."""

    @property
    def shape(self) -> tuple[int, int, int]: ...
    @property
    def ids(self) -> Any: ...
    @property
    def x(self) -> Any: ...
    def __len__(self) -> int: ...
    def take(self, n: int) -> _Split: ...


def keep(store: Store, data: str, version: str, split: _Split) -> None:
    """Keep the first images of a split, as they are stored, unless that was done before."""
    cell, store = images_of(data, version), store.beside()
    each = 4 * int(np.prod(split.shape))  # as float32; they take a quarter of it where the source has 8 bits
    n = min(len(split), BYTES // each)
    if n and not store.has_file(cell):
        first = split.take(n)
        store.save_facts(Facts(cell, {"ids": first.ids.numpy(), "images": first.x.numpy()}))


def load(store: Store, data: str, version: str) -> dict[int, npt.NDArray[Any]]:
    """Return the kept images by their sample's id, each (C, H, W): uint8 in 0..255 or float32 in [0, 1]."""
    return store.originals(data, version)
