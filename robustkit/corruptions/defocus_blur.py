"""Defocus blur."""

from __future__ import annotations

import functools
import math

import numpy as np
from torch import Tensor

from robustkit.corruptions import corruption
from robustkit.corruptions._common import Random, Table, begin, finish
from robustkit.corruptions._filters import Floats, correlate, gaussian_matrix

# radius of the disk, sigma that softens it; both in pixels
IMAGENET = ((3.0, 0.1), (4.0, 0.5), (6.0, 0.5), (8.0, 0.5), (10.0, 0.5))
CIFAR = ((0.3, 0.4), (0.4, 0.5), (0.5, 0.6), (1.0, 0.2), (1.5, 0.1))


@corruption(
    "defocus_blur",
    family="blur",
    fidelity="exact",
    differentiable=True,
    source="Hendrycks and Dietterich 2019, arXiv:1903.12261",
)
def defocus_blur(
    x: Tensor,
    severity: int,
    *,
    table: Table = "auto",
    quantize: bool = True,
    generator: Random = None,
) -> Tensor:
    """Average over a disk, as a lens out of focus does: correlation with a disk that a small Gaussian has softened.

    The image is mirrored at its outer pixels.
    """
    (radius, sigma), scale = begin(x, severity, table, IMAGENET, CIFAR)
    return finish(correlate(x, disk(radius * scale, sigma)), x, quantize)


@functools.lru_cache(maxsize=64)
def disk(radius: float, sigma: float) -> Floats:
    """Return the kernel: 17 pixels a side up to radius 8, softened over 3; larger, softened over 5, beyond."""
    reach, soft = (8, 1) if radius <= 8 else (math.ceil(radius), 2)
    line = np.arange(-reach, reach + 1)
    inside = (line[:, None] ** 2 + line[None, :] ** 2 <= radius**2).astype(np.float64)
    # int(truncate sigma + 0.5) is the radius that softens
    matrix = gaussian_matrix(len(line), sigma, (soft + 0.25) / sigma, "mirror")
    kernel: Floats = matrix @ (inside / inside.sum()) @ matrix.T
    return kernel
