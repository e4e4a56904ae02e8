"""One out-of-distribution set, ready to be scored: read, adapted, thinned out, without images of the test set."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np
import torch
from torch import Tensor

from robustkit.base.errors import UserError
from robustkit.data import Dataset
from robustkit.data._images import CACHE_BYTES
from robustkit.data._samples import CHUNK, Split
from robustkit.data._split import SEED
from robustkit.ood import ood_set
from robustkit.ood._read import Read, fitted, read

MOST = 10_000  # images of a set that are scored, and never more than there are evaluated samples


@dataclass(frozen=True)
class OodSet:
    """A set whose images have the shape of the evaluated ones; its labels are all 0 and mean nothing.

    Attributes
    ----------
    distance : str
        ``near``, ``far`` or ``unknown``.
    found : int
        How many images there are in all.
    duplicates : int
        How many of those that were drawn equal an evaluated image in every 8-bit level, and were left out.
    what, adaptation : str
        What the images are, and what was done to channels and size.
    """

    name: str
    distance: str
    split: Split
    found: int
    duplicates: int
    what: str
    adaptation: str

    def to_json(self) -> dict[str, Any]:
        """Return what is known of the set, with the fingerprint that its cells bear, as plain JSON."""
        return {
            "name": self.name, "distance": self.distance, "what": self.what, "adaptation": self.adaptation,
            "n": len(self.split), "found": self.found, "duplicates": self.duplicates, "sha256": self.split.sha256(),
        }  # fmt: skip


def build(name: str, distance: str, split: Split, load: Callable[[str], Dataset]) -> OodSet:
    """Return a set by name, for the evaluated samples ``split``.

    Where there are more images than evaluated samples, or than 10,000, a fixed random choice of so many is drawn.

    Raises
    ------
    UserError
        As :func:`robustkit.ood._read.read` does, and if only images of the test set are left.
    """
    made = _made(name, split) if name in ood_set else read(name, split.shape, load)
    found = made.pixels.shape[0]
    rows = _drawn(found, min(len(split), MOST))
    pixels = made.pixels
    if len(rows) * math.prod(split.shape) * 4 < CACHE_BYTES:
        pixels, rows = pixels[rows], torch.arange(len(rows))
    whole = Split(pixels, torch.zeros(pixels.shape[0], dtype=torch.int64), rows)
    known = _known(split)
    new = torch.tensor([mark not in known for mark in _prints(whole)])
    if not bool(new.any()):
        raise UserError(
            f"all images of the out-of-distribution set '{name}' are images that are evaluated on; name another set."
        )
    kept = whole if bool(new.all()) else whole.select(torch.nonzero(new)[:, 0])
    return OodSet(name, distance, kept, found, int((~new).sum()), made.what, made.adaptation)


def _made(name: str, split: Split) -> Read:
    return fitted(ood_set.get(name)(split), split.shape, ood_set.entry(name).summary)


def _drawn(found: int, most: int) -> Tensor:
    if found <= most:
        return torch.arange(found)
    return torch.from_numpy(np.sort(np.random.default_rng(SEED).permutation(found)[:most]))


@lru_cache(maxsize=1)  # several sets are compared with one split, which may have to be decoded
def _known(split: Split) -> frozenset[bytes]:
    return frozenset(_prints(split))


def _prints(split: Split) -> Iterator[bytes]:
    """Yield a mark for each image, equal where all 8-bit levels are."""
    for rows in torch.split(torch.arange(len(split)), CHUNK):
        levels = (split.batch(rows)[1] * 255).round().to(torch.uint8).flatten(1).numpy()
        yield from (hashlib.blake2b(level.tobytes(), digest_size=16).digest() for level in levels)
