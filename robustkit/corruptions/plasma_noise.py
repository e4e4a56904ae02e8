"""Plasma noise."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from robustkit.corruptions import corruption
from robustkit.corruptions._common import Random, Table, begin_bar, column, finish, grid
from robustkit.functional.sampling import as_generator

IMAGENET = (4.75, 7.0, 8.5, 9.25, 10.0)
CIFAR = IMAGENET


@corruption(
    "plasma_noise",
    family="noise",
    fidelity="exact",
    differentiable=True,
    source="Mintun et al. 2021, arXiv:2102.11273",
)
def plasma_noise(
    x: Tensor,
    severity: int,
    *,
    strength: float | None = None,
    table: Table = "auto",
    quantize: bool = True,
    generator: Random = None,
) -> Tensor:
    """Mix in coloured plasma n in [-1, 1], sines bent by other sines: (1 - s) x + s n, s = 64/255 m/10.

    Draws, uniform: the time in [0, 6 pi); 4, 5 or 6 rounds of bending; sharpness in [0.5, 1); the scale in [0.075, 0.2)
    times the size. A one-channel image takes the first channel of the noise.
    """
    level = begin_bar(x, severity, table, strength, IMAGENET, CIFAR)
    random = as_generator(generator, x)
    time = column(random.uniform((), 0.0, 6 * math.pi, x.device), 2)
    rounds = column(4 + random.integers(3, (), x.device), 2)
    sharpness = column(random.uniform((), 0.5, 1.0, x.device), 2)
    size = column(min(x.shape[2:]) * random.uniform((), 0.075, 0.2, x.device), 2)
    rows, columns = grid(x)
    across, down = columns.expand(x.shape[2:]) / size, rows.expand(x.shape[2:]) / size
    frequency, slowness, damping = 1.0, 1.0, torch.ones_like(sharpness)
    for i in range(6):
        right = torch.cos(down * frequency + time / slowness) / damping
        lower = torch.sin(across * frequency + time / slowness) / damping
        right, lower = right - 0.3 * lower, lower + 0.3 * right
        bent = rounds > i
        across, down = torch.where(bent, across + right, across), torch.where(bent, down + lower, down)
        frequency, slowness, damping = 1.93 * frequency, 1.15 * slowness, (2.25 - sharpness) * damping
    red, blue = torch.sin(across - time), torch.sin(down + time)
    green = torch.sin((across + down + torch.sin(time)) * 0.5)
    noise = torch.stack([red, green, blue], 1)[:, : x.shape[1]]
    share = 6.4 / 255 * level
    return finish((1 - share) * x + share * noise, x, quantize)
