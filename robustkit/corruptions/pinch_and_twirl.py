"""Pinch and twirl."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from robustkit.corruptions import corruption
from robustkit.corruptions._common import Random, Table, begin_bar, finish, grid
from robustkit.corruptions._warp import sample
from robustkit.functional.sampling import as_generator

CIFAR = (5.5, 6.0, 6.5, 8.5, 10.0)
IMAGENET = CIFAR


@corruption(
    "pinch_and_twirl",
    family="distortion",
    fidelity="exact",
    differentiable=True,
    source="Mintun et al. 2021, arXiv:2102.11273",
)
def pinch_and_twirl(
    x: Tensor,
    severity: int,
    *,
    strength: float | None = None,
    table: Table = "auto",
    quantize: bool = True,
    generator: Random = None,
) -> Tensor:
    """Pinch and twirl the image within a disk in each of 3x3 tiles (5x5 at 224 px).

    A pixel at distance d of the disk's radius is read at d sin(pi d / 2)^-a, a = 0.04 m + 0.1, turned by (pi m / 20) (1
    - d)^2 one way or the other. Draws: for each tile, by columns, a uniform number, below 0.5 for the one way.
    """
    level = begin_bar(x, severity, table, strength, IMAGENET, CIFAR)
    height, width = x.shape[2:]
    count = 5 if min(height, width) == 224 else 3
    ways = as_generator(generator, x).uniform((count, count), device=x.device) < 0.5
    angles = torch.where(ways, 1.0, -1.0) * (math.pi * level / 20)  # by column of tiles, then row
    tall, wide = height // count, width // count
    rows, columns = grid(x)
    tile_row, tile_column = ((line // size).long() for line, size in ((rows, tall), (columns, wide)))
    down, right = rows - (tile_row + 0.5) * tall, columns - (tile_column + 0.5) * wide
    away = torch.hypot(down, right)
    reach = min(tall, wide) / 2
    within = (away <= reach) & (away >= 0.0005) & (tile_row < count) & (tile_column < count)
    share = away / reach
    pinch = torch.sin(0.5 * math.pi * share.clamp(1e-6, 1.0)) ** -(0.04 * level + 0.1)
    turn = angles[:, tile_column.clamp(max=count - 1), tile_row.clamp(max=count - 1)] * (1 - share) ** 2
    new_down = pinch * (down * torch.cos(turn) - right * torch.sin(turn))
    new_right = pinch * (down * torch.sin(turn) + right * torch.cos(turn))
    rows, columns = (
        rows + torch.where(within, new_down - down, 0.0),
        columns + torch.where(within, new_right - right, 0.0),
    )
    return finish(sample(x, rows, columns, "zero"), x, quantize)
