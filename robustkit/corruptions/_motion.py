"""Motion blur as ImageMagick defines it: the mean along a line that starts at the pixel, with Gaussian weights."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from robustkit.corruptions._filters import extended
from robustkit.functional.precision import divided
from robustkit.functional.sending import sent

Places = dict[tuple[int, int], float]  # weights, by row and column in the extended image of what the first pixel reads
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
    every = [_places(angle, taps, reach) for angle in degrees.double().cpu().tolist()]
    together = x if not every else (_one_by_one if x.device.type == "cpu" else _side_by_side)(wide, every, x.shape)
    return divided(torch.floor(divided(torch.floor(together * DEEP + 0.5), 257)), 255) if levels else together


def _places(degrees: float, taps: list[tuple[int, float]], reach: int) -> Places:
    """Return what is read for one image: near the start two steps may fall on one pixel."""
    down, right = math.sin(math.radians(degrees)), math.cos(math.radians(degrees))
    places: Places = {}
    for i, weight in taps:
        place = (reach + math.ceil(i * down - 0.5), reach + math.ceil(i * right - 0.5))
        places[place] = places.get(place, 0.0) + weight
    return places


def _one_by_one(wide: Tensor, every: list[Places], shape: torch.Size) -> Tensor:
    """Add up shifted images, which is fastest on a CPU: nothing is copied."""
    height, breadth = shape[-2:]
    made = []
    for image, places in zip(wide, every, strict=True):
        blurred = torch.zeros_like(image[:, :height, :breadth])
        for (top, left), weight in places.items():
            blurred.add_(image[:, top : top + height, left : left + breadth], alpha=weight)
        made.append(blurred)
    return torch.stack(made)


def _side_by_side(wide: Tensor, every: list[Places], shape: torch.Size) -> Tensor:
    """Add up the first pixel that each image reads, then the second, ...: few launches, however many images."""
    most, stride = max(map(len, every)), wide.shape[-1]
    filled = [[*places.items(), *[((0, 0), 0.0)] * (most - len(places))] for places in every]
    starts = sent(torch.tensor([[top * stride + left for (top, left), _ in row] for row in filled]), wide.device)
    weights = sent(torch.tensor([[weight for _, weight in row] for row in filled], dtype=wide.dtype), wide.device)
    rows, columns = (torch.arange(side, device=wide.device) for side in shape[-2:])
    pixels, flat = (rows[:, None] * stride + columns).flatten(), wide.flatten(2)
    made = torch.zeros_like(flat[:, :, : len(pixels)])
    for i in range(most):
        at = (starts[:, i, None] + pixels)[:, None].expand(-1, shape[1], -1)
        made.addcmul_(flat.gather(2, at), weights[:, i, None, None])
    return made.view(shape)
