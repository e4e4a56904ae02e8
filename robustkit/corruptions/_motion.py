"""Motion blur as ImageMagick defines it: the mean along a line that starts at the pixel, with Gaussian weights."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from robustkit.corruptions._filters import extended
from robustkit.functional.precision import divided

LEAST = 1e-7  # a weight that changes no 8-bit level
DEEP = 65535  # levels of ImageMagick's own pixels, 257 of them to one of 8 bits


def motion_blurred(x: Tensor, radius: float, sigma: float, degrees: Tensor, levels: bool) -> Tensor:
    """Blur each image along its own direction.

    x'(p) = sum_i k_i x(p + o_i), k_i ~ exp(-i^2 / (2 sigma^2)), i = 0 .. 2 ceil(radius), where o_i is the pixel
    nearest to i steps into the direction; beyond the image its nearest pixel is read.

    Parameters
    ----------
    x : Tensor
        (B, C, H, W).
    degrees : Tensor
        Direction of each sample, (B,): 0 to the right, 90 down.
    levels : bool
        Whether the result has 8-bit levels, as the PNG that ImageMagick 6 writes: rounded to 16 bits, then truncated.
    """
    width = 2 * math.ceil(radius) + 1
    weights = torch.exp(-(torch.arange(width, dtype=torch.float64) ** 2) / (2 * sigma**2))
    weights /= weights.sum()
    taps = [(i, float(weight)) for i, weight in enumerate(weights) if weight > LEAST]
    reach = taps[-1][0]
    wide = extended(x, reach, reach, reach, reach, "nearest")
    height, breadth = x.shape[-2:]
    made = []
    for image, angle in zip(wide, degrees.double().cpu().tolist(), strict=True):
        down, right = math.sin(math.radians(angle)), math.cos(math.radians(angle))
        places: dict[tuple[int, int], float] = {}
        for i, weight in taps:  # near the start two steps may fall on one pixel
            place = (reach + math.ceil(i * down - 0.5), reach + math.ceil(i * right - 0.5))
            places[place] = places.get(place, 0.0) + weight
        blurred = torch.zeros_like(image[:, :height, :breadth])
        for (top, left), weight in places.items():
            blurred.add_(image[:, top : top + height, left : left + breadth], alpha=weight)
        made.append(blurred)
    result = torch.stack(made) if made else x
    return divided(torch.floor(divided(torch.floor(result * DEEP + 0.5), 257)), 255) if levels else result
