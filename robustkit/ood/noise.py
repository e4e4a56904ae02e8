"""Noise."""

from __future__ import annotations

from torch import Tensor

from robustkit.data._samples import Pixels, Split
from robustkit.data._split import SEED
from robustkit.functional.sampling import SampleGenerator
from robustkit.ood import ood_set
from robustkit.ood._pixels import Lazy


@ood_set("noise", distance="far")
def noise(split: Split) -> Pixels:
    """Uniform noise, each pixel and channel on its own; as many images as are evaluated."""

    def make(rows: Tensor) -> Tensor:
        return SampleGenerator(SEED, rows, "ood/noise").uniform(split.shape)

    return Lazy(len(split), split.shape, make)
