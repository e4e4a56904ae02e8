"""Ripple."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from robustkit.corruptions import corruption
from robustkit.corruptions._common import Random, Table, begin_bar, column, finish, grid
from robustkit.corruptions._warp import sample
from robustkit.functional.sampling import as_generator

CIFAR = (5.5, 6.0, 6.5, 7.5, 8.0)
IMAGENET = CIFAR


@corruption(
    "ripple",
    family="distortion",
    fidelity="exact",
    differentiable=True,
    source="Mintun et al. 2021, arXiv:2102.11273",
)
def ripple(
    x: Tensor,
    severity: int,
    *,
    strength: float | None = None,
    table: Table = "auto",
    quantize: bool = True,
    generator: Random = None,
) -> Tensor:
    """Move rows and columns along sines: p is read at p + m/400 size sin(2 pi p / w + phase).

    Draws, uniform, for rows, then columns: two wavelengths w in [0.1, 0.3) of the size; two phases in [0, 2 pi).
    """
    level = begin_bar(x, severity, table, strength, IMAGENET, CIFAR)
    random = as_generator(generator, x)
    side = min(x.shape[2:])
    lengths = side * random.uniform((2,), 0.1, 0.3, x.device)
    phases = random.uniform((2,), 0.0, 2 * math.pi, x.device)
    rows, columns = (
        line
        + 0.0025 * level * side * torch.sin(2 * math.pi * line / column(lengths[:, i], 2) + column(phases[:, i], 2))
        for i, line in enumerate(grid(x))
    )
    return finish(sample(x, rows, columns, "zero"), x, quantize)
