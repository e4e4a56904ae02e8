"""The plasma fractal of fog: a height map made with the diamond-square algorithm."""

from __future__ import annotations

import torch
from torch import Tensor

from robustkit.functional.sampling import SampleGenerator

WIBBLE = 100.0  # the first amplitude; only its decay matters, for the map is scaled to [0, 1]


def plasma(generator: SampleGenerator, side: int, decay: float, device: torch.device) -> Tensor:
    """Return a height map per sample, in [0, 1], that repeats at its ends.

    Draws: for every step size, halved from ``side`` to 2: the centres of the squares, then the midpoints of their
    horizontal and of their vertical edges, row by row, each uniform in [-1, 1).

    Parameters
    ----------
    side : int
        A power of two.
    decay : float
        By what the amplitude is divided from one step size to the next; it enters squared.

    Returns
    -------
    Tensor
        float32, (B, side, side).
    """
    height = torch.zeros(len(generator), side, side, device=device)
    step, wibble = side, WIBBLE
    while step >= 2:
        half, count = step // 2, side // step

        def random(amplitude: float = wibble, count: int = count) -> Tensor:
            return amplitude**2 * generator.uniform((count, count), -1.0, 1.0, device)

        corners = height[:, ::step, ::step]
        below = corners.roll(-1, 1)
        height[:, half::step, half::step] = (
            corners + below + corners.roll(-1, 2) + below.roll(-1, 2)
        ) / 4 + random()  # fmt: skip
        centres = height[:, half::step, half::step]
        height[:, ::step, half::step] = (centres + centres.roll(1, 1) + corners + corners.roll(-1, 2)) / 4 + random()
        height[:, half::step, ::step] = (centres + centres.roll(1, 2) + corners + corners.roll(-1, 1)) / 4 + random()
        step, wibble = half, wibble / decay
    height = height - height.amin((1, 2), keepdim=True)
    return height / height.amax((1, 2), keepdim=True)


def map_side(height: int, width: int) -> int:
    """Return the least power of two that covers an image."""
    return 1 << (max(height, width) - 1).bit_length()
