"""Perlin noise."""

from __future__ import annotations

from torch import Tensor

from robustkit.corruptions import corruption
from robustkit.corruptions._common import Random, Table, begin_bar, finish, grid
from robustkit.corruptions._perlin import lattice, turbulence
from robustkit.functional.sampling import as_generator

IMAGENET = (4.6, 5.2, 5.8, 7.6, 8.8)
CIFAR = IMAGENET


@corruption(
    "perlin_noise",
    family="noise",
    fidelity="exact",
    differentiable=True,
    source="Mintun et al. 2021, arXiv:2102.11273",
)
def perlin_noise(
    x: Tensor,
    severity: int,
    *,
    strength: float | None = None,
    table: Table = "auto",
    quantize: bool = True,
    generator: Random = None,
) -> Tensor:
    """Mix in grey turbulence t of gradient noise: (1 - s) x + s clip(t / 2 + 1/2), s = m / 20.

    A lattice cell is 32 of 224 pixels. Draws: 256 random numbers, whose order is the permutation; then 256 gradients,
    each of two integers in [0, 512) minus 256, scaled to unit length.
    """
    level = begin_bar(x, severity, table, strength, IMAGENET, CIFAR)
    order, gradients = lattice(as_generator(generator, x), x.device)
    cell = 32 * min(x.shape[2:]) / 224
    rows, columns = grid(x)
    noise = (0.5 * turbulence(rows / cell, columns / cell, order, gradients) + 0.5).clamp(0.0, 1.0)[:, None]
    share = 0.05 * level
    return finish((1 - share) * x + share * noise, x, quantize)
