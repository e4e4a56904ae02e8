"""Edges, distances and equal histograms of 8-bit images, as OpenCV defines them, for whole batches."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional

from robustkit.corruptions._filters import extended

TANGENT = 13573  # tan(22.5 degrees) in units of 2^-15
STEPS = ((0, 1, 1.0), (1, 0, 1.0), (1, 1, 1.4), (1, -1, 1.4),
         (1, 2, 2.1969), (2, 1, 2.1969), (1, -2, 2.1969), (2, -1, 2.1969))  # fmt: skip


def edges(image: Tensor, low: int, high: int) -> Tensor:
    """Return Canny's edges of images (B, H, W) whose values are whole numbers in 0..255, bool.

    Sobel gradients of 3x3 pixels, |g| = |g_x| + |g_y|; a pixel stays where it is the largest along its gradient and
    above ``low``, and is an edge if pixels that stay connect it to one above ``high``.
    """
    wide = extended(image, 1, 1, 1, 1, "nearest")
    rows = wide[:, :-2] + 2 * wide[:, 1:-1] + wide[:, 2:]
    columns = wide[:, :, :-2] + 2 * wide[:, :, 1:-1] + wide[:, :, 2:]
    right, down = rows[:, :, 2:] - rows[:, :, :-2], columns[:, 2:] - columns[:, :-2]
    size = right.abs() + down.abs()
    around = functional.pad(size, (1, 1, 1, 1))
    height, width = image.shape[1:]

    def at(i: int, j: int) -> Tensor:
        return around[:, 1 + i : 1 + i + height, 1 + j : 1 + j + width]

    across, along = right.abs() * TANGENT, down.abs() * 2**15
    flat = along < across
    upright = along > across + right.abs() * 2**16
    same = (right < 0) == (down < 0)
    slanted = torch.where(same, (size > at(-1, -1)) & (size > at(1, 1)), (size > at(-1, 1)) & (size > at(1, -1)))
    largest = torch.where(
        flat,
        (size > at(0, -1)) & (size >= at(0, 1)),
        torch.where(upright, (size > at(-1, 0)) & (size >= at(1, 0)), slanted),
    )
    weak = largest & (size > low)
    found = weak & (size > high)
    while True:
        grown = weak & (functional.max_pool2d(found.float()[:, None], 3, 1, 1)[:, 0] > 0)
        if bool((grown == found).all()):
            return found
        found = grown


def distances(marked: Tensor, most: int) -> Tensor:
    """Return how far each pixel is from the nearest marked one (B, H, W), at most ``most``.

    Along steps of length 1, 1.4 (diagonal) and 2.1969 (a knight's move).
    """
    far = float(most + 3)
    found = torch.where(marked, 0.0, far)
    height, width = marked.shape[1:]
    for _ in range(most + 1):
        around = functional.pad(found, (2, 2, 2, 2), value=far)
        nearer = found
        for i, j, length in STEPS:
            for sign in (1, -1):
                top, left = 2 + sign * i, 2 + sign * j
                nearer = torch.minimum(nearer, around[:, top : top + height, left : left + width] + length)
        if bool((nearer == found).all()):
            break
        found = nearer
    return found.clamp(max=most)


def equalized(image: Tensor) -> Tensor:
    """Spread the histogram of images (B, H, W) of whole numbers in 0..255 evenly; one of a single value stays."""
    flat = image.flatten(1).long()
    counts = torch.zeros(len(flat), 256, device=image.device).scatter_add_(
        1, flat, torch.ones_like(flat, dtype=torch.float32)
    )
    least = counts.gather(1, flat.amin(1, keepdim=True))
    total = float(flat.shape[1])
    scaled = torch.round((counts.cumsum(1) - least) * (255 / (total - least)))
    made = scaled.gather(1, flat).view_as(image)
    return torch.where((least == total)[:, :, None], image, made)


def averaged(image: Tensor) -> Tensor:
    """Return the mean over 3x3 pixels of images (B, H, W), mirrored at the outer pixels."""
    return functional.avg_pool2d(extended(image, 1, 1, 1, 1, "mirror")[:, None], 3, 1)[:, 0]
