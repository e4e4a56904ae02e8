"""Lines."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from robustkit.corruptions import corruption
from robustkit.corruptions._common import Random, Table, begin_bar, column, finish, grid, truncated
from robustkit.functional.sampling import as_generator

CIFAR = (0.5, 1.0, 1.5, 2.0, 2.5)
IMAGENET = CIFAR


@corruption(
    "lines",
    family="obscure",
    fidelity="exact",
    differentiable=True,
    source="Mintun et al. 2021, arXiv:2102.11273",
)
def lines(
    x: Tensor,
    severity: int,
    *,
    strength: float | None = None,
    table: Table = "auto",
    quantize: bool = True,
    generator: Random = None,
) -> Tensor:
    """Cross the image with int(m/10 size) thin grey lines, roughly parallel.

    A line covers a pixel by 1 minus its distance from it; pixels are truncated to 8-bit levels after every line if
    ``quantize``. Draws, uniform: an angle in [0, 2 pi); how much it varies, 0.1 to 1 of a full turn; then for each line
    a point, row and column, and the share of the variation, in [-0.5, 0.5) after 0.5 is subtracted. The line reaches
    the size of the image to both sides of its point, its ends truncated to whole pixels.
    """
    level = begin_bar(x, severity, table, strength, IMAGENET, CIFAR)
    random = as_generator(generator, x)
    height, width = x.shape[2:]
    side = min(height, width)
    angle = random.uniform((), 0.0, 2 * math.pi, x.device)
    variation = random.uniform((), 0.1, 1.0, x.device)
    rows, columns = grid(x)
    made = x
    for _ in range(int(level / 10 * side)):
        u = random.uniform((3,), device=x.device)
        a = angle + 2 * math.pi * variation * (u[:, 2] - 0.5)
        row, middle, down, right = height * u[:, 0], width * u[:, 1], side * torch.cos(a), side * torch.sin(a)
        ends = [column(torch.trunc(v), 2) for v in (row - down, middle - right, row + down, middle + right)]
        cover = _coverage(rows, columns, *ends)[:, None].to(x.dtype)
        made = (1 - cover) * made + cover * (128 / 255)
        made = truncated(made) if quantize else made
    return finish(made, x, quantize)


def _coverage(rows: Tensor, columns: Tensor, row0: Tensor, column0: Tensor, row1: Tensor, column1: Tensor) -> Tensor:
    """Return by how much a line one pixel wide covers each pixel, (B, H, W)."""
    down, right = row1 - row0, column1 - column0
    away = (right * (rows - row0) - down * (columns - column0)).abs() / torch.hypot(down, right)
    steep = down.abs() > right.abs()
    along = torch.where(steep, (rows - row0) * down.sign(), (columns - column0) * right.sign())
    within = (along >= 0) & (along <= torch.maximum(down.abs(), right.abs()))
    return torch.where(within, (1 - away).clamp(min=0.0), 0.0)
