"""The evaluated images themselves, their parts in the wrong places."""

from __future__ import annotations

from torch import Tensor

from robustkit.data._samples import Pixels, Split
from robustkit.ood import ood_set
from robustkit.ood._pixels import Lazy


@ood_set("swapped-quarters", distance="near")
def swapped_quarters(split: Split) -> Pixels:
    """The evaluated images with diagonal quarters swapped: the same pixels and strokes in the wrong places.

    Nobody has looked at them one by one: a few may still pass for a class.
    """
    _, height, width = split.shape

    def make(rows: Tensor) -> Tensor:
        return split.batch(rows)[1].roll((height // 2, width // 2), (2, 3))

    return Lazy(len(split), split.shape, make)
