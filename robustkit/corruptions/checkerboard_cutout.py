"""Checkerboard cutout."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from robustkit.corruptions import corruption
from robustkit.corruptions._common import Random, Table, begin_bar, column, finish, grid
from robustkit.functional.sampling import as_generator

IMAGENET = (2.0, 3.0, 4.0, 5.0, 6.0)
CIFAR = (1.0, 2.0, 3.0, 4.0, 5.0)
MOST = 40  # squares along four times the size, at their smallest


@corruption(
    "checkerboard_cutout",
    family="obscure",
    fidelity="exact",
    differentiable=True,
    source="Mintun et al. 2021, arXiv:2102.11273",
)
def checkerboard_cutout(
    x: Tensor,
    severity: int,
    *,
    strength: float | None = None,
    table: Table = "auto",
    quantize: bool = True,
    generator: Random = None,
) -> Tensor:
    """Cover squares of one colour of a turned checkerboard with grey, each with probability m / 10.

    Draws, uniform: the angle in [0, 2 pi); the side of a square in [0.1, 0.25) of the size; 40x40 numbers, of which the
    first int(4 size / side) rows and columns decide about the squares.
    """
    level = begin_bar(x, severity, table, strength, IMAGENET, CIFAR)
    random = as_generator(generator, x)
    angle = column(random.uniform((), 0.0, 2 * math.pi, x.device), 2)
    side = min(x.shape[2:])
    square = column((side * random.uniform((), 0.1, 0.25, x.device)).clamp(min=1.0), 2)
    covered = random.uniform((MOST, MOST), device=x.device) < level / 10
    rows, columns = grid(x)
    down = (torch.cos(angle) * rows + torch.sin(angle) * columns) / square
    right = (torch.cos(angle) * columns - torch.sin(angle) * rows) / square
    same = torch.remainder(down, 2).long() == torch.remainder(right, 2).long()
    count = (4 * side / square).long().clamp(max=MOST)
    # Truncated towards 0, and counted from the end where negative, as the published code indexes.
    place = (down.long() % count) * MOST + right.long() % count
    hidden = same & covered.flatten(1).gather(1, place.flatten(1)).view_as(same)
    return finish(torch.where(hidden[:, None], 128 / 255, x), x, quantize)
