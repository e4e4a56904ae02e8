"""Circular motion blur."""

from __future__ import annotations

import math

from torch import Tensor

from robustkit.corruptions import corruption
from robustkit.corruptions._common import Random, Table, begin_bar, finish
from robustkit.corruptions._rotation import rotated_sum

CIFAR = (2.8, 3.6, 4.4, 5.2, 6.0)
IMAGENET = CIFAR


@corruption(
    "circular_motion_blur",
    family="blur",
    fidelity="exact",
    differentiable=True,
    source="Mintun et al. 2021, arXiv:2102.11273",
)
def circular_motion_blur(
    x: Tensor,
    severity: int,
    *,
    strength: float | None = None,
    table: Table = "auto",
    quantize: bool = True,
    generator: Random = None,
) -> Tensor:
    """Average the image turned by 21 angles between -1.5 m and 1.5 m degrees, weighted by a Gaussian.

    t = -1 .. 1 has weight exp(-2 t^2). Turned about the middle by cubic splines, black beyond the image.
    """
    level = begin_bar(x, severity, table, strength, IMAGENET, CIFAR)
    turns = [i / 10 - 1 for i in range(21)]
    weights = [math.exp(-2 * t**2) for t in turns]
    total = rotated_sum(x, [1.5 * level * t for t in turns], weights)
    return finish(total / sum(weights), x, quantize)
