"""Light with rays of random length: the shape that sparkles and inverse sparkles share."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from robustkit.corruptions._common import column, grid
from robustkit.functional.sampling import SampleGenerator

FEWEST, MOST = 50, 200  # rays of one light: at least, less than
VARIATION = 0.25  # standard deviation of a ray's length, as a share of the mean


def rays(generator: SampleGenerator, device: torch.device) -> Tensor:
    """Draw how many rays a light has, int64 (B,)."""
    return FEWEST + generator.integers(MOST - FEWEST, (), device)


def lengths(generator: SampleGenerator, radius: float, device: torch.device) -> Tensor:
    """Draw the lengths of as many rays as any light may have, in pixels, (B, 199)."""
    return radius * (1 + VARIATION * generator.normal((MOST - 1,), device))


def light(x: Tensor, centre: Tensor, count: Tensor, length: Tensor, exponent: float) -> Tensor:
    """Return how bright a light is at each pixel, in [0, 1], (B, 1, H, W).

    At distance r and angle a, with f the fraction between two rays: (1 - (f - 1/2)^2) (l(a)^2 / r^2)^exponent, l the
    length interpolated between the two.

    Parameters
    ----------
    centre : Tensor
        Row and column, (B, 2).
    count, length : Tensor
        As drawn by :func:`rays` and :func:`lengths`.
    """
    rows, columns = grid(x)
    down, across = rows - column(centre[:, 0], 2), columns - column(centre[:, 1], 2)
    turn = (torch.atan2(across, down) + math.pi) / (2 * math.pi) * column(count, 2)
    ray = turn.floor()
    fraction = turn - ray
    first = ray.long() % column(count, 2)
    second = (first + 1) % column(count, 2)
    near, far = (length.gather(1, at.flatten(1)).view_as(turn) for at in (first, second))
    between = near + fraction * (far - near)
    glow = (between**2 / (down**2 + across**2 + 1e-4)) ** exponent
    return ((1 - (fraction - 0.5) ** 2) * glow).clamp(0.0, 1.0)[:, None]
