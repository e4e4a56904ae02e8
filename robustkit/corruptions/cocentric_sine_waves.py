"""Concentric waves."""

from __future__ import annotations

import torch
from torch import Tensor

from robustkit.corruptions import corruption
from robustkit.corruptions._common import Random, Table, begin_bar, column, finish, grid
from robustkit.functional.sampling import as_generator

IMAGENET = (3.0, 5.0, 8.0, 9.0, 10.0)
CIFAR = IMAGENET


@corruption(
    "cocentric_sine_waves",
    family="noise",
    fidelity="exact",
    differentiable=True,
    source="Mintun et al. 2021, arXiv:2102.11273",
)
def cocentric_sine_waves(
    x: Tensor,
    severity: int,
    *,
    strength: float | None = None,
    table: Table = "auto",
    quantize: bool = True,
    generator: Random = None,
) -> Tensor:
    """Add rings about a random point, their edges wavy: x + 128/255 m/10 (d mod w / w - 1/2), d = r + a sin(f angle).

    Draws, uniform: the centre, column and row, over the image; f in [0, 10); a and w in [0, size / 10). The name is
    spelt as in the published sets.
    """
    level = begin_bar(x, severity, table, strength, IMAGENET, CIFAR)
    random = as_generator(generator, x)
    height, width = x.shape[2:]
    side = min(height, width)
    centre = random.uniform((2,), device=x.device)
    frequency = column(random.uniform((), 0.0, 10.0, x.device))
    amplitude = column(random.uniform((), 0.0, side / 10, x.device))
    ring = column(random.uniform((), 0.0, side / 10, x.device)).clamp(min=1e-6)
    rows, columns = grid(x)
    right, down = columns - column(width * centre[:, 0]), rows - column(height * centre[:, 1])
    wavy = torch.hypot(right, down) + torch.sin(torch.atan2(right, down) * frequency) * amplitude
    return finish(x + 12.8 / 255 * level * (torch.remainder(wavy, ring) / ring - 0.5), x, quantize)
