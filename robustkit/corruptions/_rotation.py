"""Sums of turned images, by cubic splines."""

from __future__ import annotations

import functools
import math
from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn import functional

from robustkit.corruptions._filters import apply, spline_prefilter

SMALL = 48**2  # pixels of an image up to which the matrix is small, too
TOLERANCE = 1e-9  # pixels by which double rounding may leave the image


def rotated_sum(x: Tensor, degrees: Sequence[float], weights: Sequence[float]) -> Tensor:
    """Return sum_i w_i rotate(x, degrees_i) about the middle, (B, C, H, W), 0 beyond the image.

    Each turned image is a fixed sum over 16 pixels of the spline coefficients of x, so that the batch shares all
    indices and weights. For a small image the whole sum is one matrix.
    """
    b, c, height, width = x.shape
    coefficients = apply(x, spline_prefilter(height), spline_prefilter(width))
    if height * width <= SMALL:
        matrix = _matrix(height, width, tuple(degrees), tuple(weights)).to(x)
        return (coefficients.flatten(2) @ matrix.mT).view_as(x)
    table = coefficients.flatten(2).permute(2, 0, 1).reshape(height * width, b * c)
    total = torch.zeros_like(table)
    for angle, weight in zip(degrees, weights, strict=True):
        index, taps = _taps(height, width, angle, x.device)
        taps = (weight * taps).to(x.dtype)
        total = total + functional.embedding_bag(index, table, mode="sum", per_sample_weights=taps)
    return total.view(height, width, b, c).permute(2, 3, 0, 1)


@functools.lru_cache(maxsize=16)
def _matrix(height: int, width: int, degrees: tuple[float, ...], weights: tuple[float, ...]) -> Tensor:
    """Return the weight of each coefficient (column) in the sum at each pixel (row), (H W, H W)."""
    matrix = torch.zeros(height * width, height * width, dtype=torch.float64)
    for angle, weight in zip(degrees, weights, strict=True):
        index, taps = _taps(height, width, angle, matrix.device)
        matrix.scatter_add_(1, index, weight * taps)
    return matrix


def _taps(height: int, width: int, degrees: float, device: torch.device) -> tuple[Tensor, Tensor]:
    """Return the 16 pixels that each pixel of a turned image is made of, int64 (H W, 16), and their weights."""
    cos, sin = math.cos(math.radians(degrees)), math.sin(math.radians(degrees))
    down = torch.arange(height, device=device, dtype=torch.float64)[:, None] - (height - 1) / 2
    right = torch.arange(width, device=device, dtype=torch.float64)[None, :] - (width - 1) / 2
    row = (cos * down + sin * right + (height - 1) / 2).flatten()
    column = (cos * right - sin * down + (width - 1) / 2).flatten()
    inside = (row > -TOLERANCE) & (row < height - 1 + TOLERANCE)
    inside &= (column > -TOLERANCE) & (column < width - 1 + TOLERANCE)
    (rows, down_weights), (columns, right_weights) = _axis(row, height), _axis(column, width)
    index = rows[:, :, None] * width + columns[:, None, :]
    taps = down_weights[:, :, None] * right_weights[:, None, :] * inside[:, None, None]
    return index.flatten(1), taps.flatten(1)


def _axis(at: Tensor, n: int) -> tuple[Tensor, Tensor]:
    """Return the four nearest pixels of one axis, mirrored at its ends, and their cubic B-spline weights."""
    index = at.floor()[:, None] + torch.arange(-1, 3, device=at.device)
    away = (at[:, None] - index).abs()
    weights = torch.where(away < 1, 2 / 3 - away**2 + away**3 / 2, (2 - away).clamp(min=0) ** 3 / 6)
    turned = index.long() % (2 * n - 2)
    return torch.minimum(turned, 2 * n - 2 - turned), weights
