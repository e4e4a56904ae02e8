"""Textures of frost: cut from photographs, or grown from noise."""

from __future__ import annotations

import functools
from pathlib import Path

import numpy as np
import PIL.Image
import torch
from torch import Tensor

from robustkit.base.errors import UserError
from robustkit.corruptions._fractal import map_side, plasma
from robustkit.corruptions._warp import sample
from robustkit.functional.sampling import SampleGenerator

COUNT = 5  # of the six photographs the published code uses the first five
ENDINGS = (".png", ".jpg", ".jpeg")
TINT = (0.90, 0.97, 1.0)  # of ice, red green blue
LUMA = (0.299, 0.587, 0.114)


def photographed(random: SampleGenerator, x: Tensor, folder: str, scale: float) -> Tensor:
    """Return a random crop of a photograph for each image, shape of x, the photographs resized by ``scale``."""
    images = [_resized(image, scale) for image in _photographs(folder)]
    height, width = x.shape[2:]
    for image, path in zip(images, _paths(folder), strict=True):
        if image.shape[1] <= height or image.shape[2] <= width:
            size = f"{image.shape[2]}x{image.shape[1]}"
            raise UserError(f"'{path}' is {size} pixels when resized; images of {width}x{height} need a larger one.")
    which = random.integers(COUNT).tolist()
    tops = torch.tensor([images[i].shape[1] - height for i in which])
    lefts = torch.tensor([images[i].shape[2] - width for i in which])
    top, left = random.integers(tops, device="cpu").tolist(), random.integers(lefts, device="cpu").tolist()
    crops = [
        images[i][:, r : r + height, c : c + width] for i, r, c in zip(which, top, left, strict=True)
    ]  # fmt: skip
    made = torch.stack(crops).to(x) if crops else x
    return made if x.shape[1] == 3 else (made * made.new_tensor(LUMA).view(1, 3, 1, 1)).sum(1, keepdim=True)


def _resized(image: Tensor, scale: float) -> Tensor:
    """Resize linearly without a filter, as OpenCV does, to 8-bit levels."""
    if scale == 1:
        return image
    rows, columns = ((torch.arange(round(n * scale)) + 0.5) / scale - 0.5 for n in image.shape[1:])
    exact = sample(image[None], rows[None, :, None], columns[None, None, :], "reflect")[0]
    return (exact * 255).round() / 255


@functools.lru_cache(maxsize=2)
def _photographs(folder: str) -> tuple[Tensor, ...]:
    images = (np.asarray(PIL.Image.open(path).convert("RGB")) for path in _paths(folder))
    return tuple(torch.from_numpy(image.copy()).permute(2, 0, 1).float() / 255 for image in images)


def _paths(folder: str) -> list[Path]:
    """Return the five photographs of a folder; a :class:`UserError` if it has fewer."""
    place = Path(folder).expanduser()
    found = sorted(path for path in place.glob("*") if path.suffix.lower() in ENDINGS)[:COUNT]
    if len(found) < COUNT:
        raise UserError(
            f"'{folder}' holds {len(found)} photographs of frost; give a folder with frost1 to frost{COUNT}."
        )
    return found


def grown(random: SampleGenerator, x: Tensor) -> Tensor:
    """Return frost grown from noise, channels of x, in [0, 1]: needles along the ridges of two fractals, and haze.

    A fractal's ridges, where it crosses its middle, are thin and branch; their heights are another fractal's.
    """
    height, width = x.shape[2:]
    side = map_side(height, width)
    maps = [plasma(random, side, decay, x.device)[:, :height, :width] for decay in (1.5, 1.35, 2.0)]
    ridges = [(1 - (2 * m - 1).abs()).clamp(min=0) ** power for m, power in zip(maps[:2], (4.0, 8.0), strict=True)]
    ice = 0.25 + 0.35 * maps[2] + 0.3 * ridges[0] + 0.3 * ridges[1]
    tint = x.new_tensor(TINT if x.shape[1] == 3 else (1.0,)).view(1, -1, 1, 1)
    return (ice[:, None] * tint).clamp(0.0, 1.0)
