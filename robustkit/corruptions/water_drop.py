"""Water drop."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from robustkit.corruptions import corruption
from robustkit.corruptions._common import Random, Table, begin_bar, column, finish, grid
from robustkit.corruptions._warp import sample
from robustkit.functional.sampling import as_generator

IMAGENET = (5.5, 6.5, 7.5, 8.5, 9.5)
CIFAR = (2.8, 4.4, 6.0, 7.6, 9.2)


@corruption(
    "water_drop",
    family="distortion",
    fidelity="exact",
    differentiable=True,
    source="Mintun et al. 2021, arXiv:2102.11273",
)
def water_drop(
    x: Tensor,
    severity: int,
    *,
    strength: float | None = None,
    table: Table = "auto",
    quantize: bool = True,
    generator: Random = None,
) -> Tensor:
    """Move pixels to and from the point where a drop fell, at distance r by m/40 w sin(2 pi r / w - phase).

    Within half the size of the centre. The published sets leave it out; the strengths here are five of the ten that
    their authors tried. Draws, uniform: the centre, row and column, in the middle half; the wavelength w in [0.05, 0.2)
    of the size; the phase in [0, 2 pi).
    """
    level = begin_bar(x, severity, table, strength, IMAGENET, CIFAR)
    random = as_generator(generator, x)
    height, width = x.shape[2:]
    side = min(height, width)
    centre = random.uniform((2,), 0.25, 0.75, x.device)
    length = column(side * random.uniform((), 0.05, 0.2, x.device), 2)
    phase = column(random.uniform((), 0.0, 2 * math.pi, x.device), 2)
    rows, columns = grid(x)
    down, right = rows - column(height * centre[:, 0], 2), columns - column(width * centre[:, 1], 2)
    away = torch.hypot(down, right)
    amount = 0.025 * level * torch.sin(2 * math.pi * away / length - phase) * length / away.clamp(min=1e-6)
    amount = torch.where(away <= side // 2, amount, 0.0)
    return finish(sample(x, rows + amount * down, columns + amount * right, "zero"), x, quantize)
