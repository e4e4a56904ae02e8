"""Perlin's gradient noise and its turbulence."""

from __future__ import annotations

import torch
from torch import Tensor

from robustkit.functional.sampling import SampleGenerator

SIDE = 256  # gradients, and period of the lattice
OCTAVES = (1, 2, 4, 8, 16)


def lattice(generator: SampleGenerator, device: torch.device) -> tuple[Tensor, Tensor]:
    """Draw a permutation of the 256 gradients, int64 (B, 256), and the gradients, unit vectors (B, 256, 2)."""
    order = generator.bits((SIDE,), device).argsort(1)
    steps = generator.integers(2 * SIDE, (SIDE, 2), device) - SIDE
    steps[..., 0] += (steps == 0).all(-1)  # (0, 0) has no direction
    gradients = steps.float()
    return order, gradients / gradients.norm(dim=-1, keepdim=True)


def turbulence(rows: Tensor, columns: Tensor, order: Tensor, gradients: Tensor) -> Tensor:
    """Return sum over octaves f of |noise(f p)| / f, (B, H, W), at lattice coordinates (H, 1) and (1, W)."""
    total = 0.0 * rows * columns
    for octave in OCTAVES:
        total = total + _noise(octave * rows, octave * columns, order, gradients).abs() / octave
    return total


def _noise(rows: Tensor, columns: Tensor, order: Tensor, gradients: Tensor) -> Tensor:
    """Return gradient noise times 1.5: smooth between the dot products with the gradients of four corners."""
    top, left = rows.floor(), columns.floor()
    down, right = rows - top, columns - left

    def corner(i: int, j: int) -> Tensor:
        row, col = (top.long() + i) % SIDE, (left.long() + j) % SIDE
        first = order[:, row[:, 0]]
        chosen = order.gather(1, ((first[:, :, None] + col) % SIDE).flatten(1))
        slope = gradients.gather(1, chosen[..., None].expand(-1, -1, 2)).view(len(order), len(row), col.shape[1], 2)
        return slope[..., 0] * (down - i) + slope[..., 1] * (right - j)

    upper = torch.lerp(corner(0, 0), corner(1, 0), _smooth(down).expand(-1, columns.shape[1]))
    lower = torch.lerp(corner(0, 1), corner(1, 1), _smooth(down).expand(-1, columns.shape[1]))
    return 1.5 * torch.lerp(upper, lower, _smooth(right).expand(rows.shape[0], -1))


def _smooth(t: Tensor) -> Tensor:
    return t**2 * (3 - 2 * t)
