"""Caustic refraction."""

from __future__ import annotations

import torch
from torch import Tensor

from robustkit.corruptions import corruption
from robustkit.corruptions._common import Random, Table, begin_bar, column, finish, grid
from robustkit.corruptions._filters import gaussian
from robustkit.corruptions._warp import sample
from robustkit.functional.sampling import as_generator

IMAGENET = (2.35, 3.2, 4.9, 6.6, 9.15)
CIFAR = IMAGENET
INDEX = 4.0  # of refraction
TURN = 6.28318530718  # 2 pi, to the digits that were published
FINENESS = 0.005


@corruption(
    "caustic_refraction",
    family="distortion",
    fidelity="exact",
    differentiable=True,
    source="Mintun et al. 2021, arXiv:2102.11273",
)
def caustic_refraction(
    x: Tensor,
    severity: int,
    *,
    strength: float | None = None,
    table: Table = "auto",
    quantize: bool = True,
    generator: Random = None,
) -> Tensor:
    """Look through a water surface: the caustics that it throws, softened, bend the light and brighten the image.

    The slope of the caustics is the normal of a lens of refractive index 4, m/20 of the size deep; pixels are moved
    along it, rounded to 1/1000, and lit by the slope times m/5. Draws, uniform: time in [0.5, 2); the period of the
    pattern, 0.75 to 1.25 of the size.
    """
    level = begin_bar(x, severity, table, strength, IMAGENET, CIFAR)
    random = as_generator(generator, x)
    side = min(x.shape[2:])
    time = random.uniform((), 0.5, 2.0, x.device)
    period = side * random.uniform((), 0.75, 1.25, x.device)
    light = gaussian(_caustics(x, column(time.double(), 2), column(period.double(), 2)), 1.0, edge="reflect")
    dark = torch.nn.functional.pad(light, (1, 1, 1, 1))
    down = dark[:, 2:, 1:-1] - dark[:, :-2, 1:-1]
    right = dark[:, 1:-1, 2:] - dark[:, 1:-1, :-2]
    slope = down**2 + right**2
    upright = 1 / torch.sqrt(1 + slope)  # cosine of the angle between normal and light
    bent = torch.sqrt(1 - (1 - upright**2) / INDEX**2) - upright / INDEX
    move = torch.where(upright >= 1 - 1e-3, 0.0, upright * bent * 0.05 * side * level)
    move_down, move_right = (torch.round(move * part, decimals=3) for part in (down, right))
    rows, columns = grid(x)
    made = sample(x, (rows + move_down).to(x.dtype), (columns + move_right).to(x.dtype), "zero")
    return finish(made + (0.2 * level * (down - right))[:, None].to(x.dtype), x, quantize)


def _caustics(x: Tensor, time: Tensor, period: Tensor) -> Tensor:
    """Return the pattern of light on the ground of the water, in [0, 1], float64 (B, H, W)."""
    rows, columns = (line / period % 1 * TURN - 250 for line in grid(x))
    down, right, total = rows, columns, torch.ones_like(rows * columns)
    for i in range(5):
        t = time * (1 - 3.5 / (i + 1))
        down, right = (
            rows + torch.cos(t - down) + torch.sin(t + right),
            columns + torch.sin(t - right) + torch.cos(t + down),
        )
        total = total + 1 / torch.hypot(
            rows * FINENESS / torch.sin(down + t), columns * FINENESS / torch.cos(right + t)
        )
    return (1.17 - (total / 5) ** 1.4).abs().pow(8).clamp(0.0, 1.0)
