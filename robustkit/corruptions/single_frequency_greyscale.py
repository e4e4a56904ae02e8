"""A single frequency."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from robustkit.corruptions import corruption
from robustkit.corruptions._common import Random, Table, begin_bar, column, finish, grid
from robustkit.functional.sampling import as_generator

IMAGENET = (1.0, 1.5, 2.0, 4.5, 5.0)
CIFAR = IMAGENET


@corruption(
    "single_frequency_greyscale",
    family="noise",
    fidelity="exact",
    differentiable=True,
    source="Mintun et al. 2021, arXiv:2102.11273",
)
def single_frequency_greyscale(
    x: Tensor,
    severity: int,
    *,
    strength: float | None = None,
    table: Table = "auto",
    quantize: bool = True,
    generator: Random = None,
) -> Tensor:
    """Add one plane wave, the same in all channels: x + 196/255 m/10 sin(a column + b row + phase).

    Draws, uniform: one frequency in [-pi, pi), the other in [-1, 1) times its size; whether they change places (below
    0.5); the phase in [0, 2 pi).
    """
    level = begin_bar(x, severity, table, strength, IMAGENET, CIFAR)
    random = as_generator(generator, x)
    first = random.uniform((), -math.pi, math.pi, x.device)
    second = first.abs() * random.uniform((), -1.0, 1.0, x.device)
    change = random.uniform((), device=x.device) < 0.5
    phase = random.uniform((), 0.0, 2 * math.pi, x.device)
    across, down = torch.where(change, second, first), torch.where(change, first, second)
    rows, columns = grid(x)
    wave = torch.sin(columns * column(across) + rows * column(down) + column(phase))
    return finish(x + 19.6 / 255 * level * wave, x, quantize)
