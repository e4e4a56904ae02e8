"""Stored images as PNG files, a pixel for a pixel, and what was added to them in grey with a stated factor."""

from __future__ import annotations

import io
import math
from collections.abc import Iterable
from typing import Any

import numpy as np
import numpy.typing as npt

Image = npt.NDArray[np.floating[Any]]  # (C, H, W) in [0, 1]
MIDDLE = 127.5  # level of a pixel that was not changed: it is drawn as 128
SLACK = 1e-4  # eps 0.1 is five times in a half, though float32 holds a little more than 0.1


def as_float(image: npt.NDArray[Any]) -> Image:
    """Return an image (C, H, W) in [0, 1] as the attacks saw it, from 8 bits or float32."""
    return image.astype(np.float32) / np.float32(255) if image.dtype == np.uint8 else image.astype(np.float32)


def png(image: Image) -> bytes:
    """Return an image (C, H, W) in [0, 1] as a PNG file of 8 bits: every level is off by half a level at most."""
    return _png(np.floor(255 * np.clip(image.astype(np.float64), 0, 1) + 0.5))


def factor_of(perturbations: Iterable[Image]) -> float:
    """Return the largest whole factor by which all perturbations fit between black and white, or a half.

    A change of a pixel by 1 would need a range of -1 to 1: where one is larger than 0.5 they are drawn at half size.
    """
    most = max((255 * float(np.abs(one).max(initial=0)) for one in perturbations), default=0.0)
    if most == 0:
        return 1.0
    return float(math.floor(MIDDLE / most + SLACK)) or 0.5


def perturbation_png(perturbation: Image, factor: float) -> bytes:
    """Return a perturbation as a PNG file: level 127.5 + 255 x factor x change, off by half a level at most."""
    return _png(np.clip(np.floor(MIDDLE + 255 * factor * perturbation.astype(np.float64) + 0.5), 0, 255))


def _png(levels: npt.NDArray[np.float64]) -> bytes:
    """Encode levels (C, H, W): three channels as colours, one in grey; of any other number the first in grey."""
    import PIL.Image

    pixels = levels.astype(np.uint8)
    shown = pixels.transpose(1, 2, 0) if len(pixels) == 3 else pixels[0]
    stream = io.BytesIO()
    PIL.Image.fromarray(np.ascontiguousarray(shown)).save(stream, "PNG", optimize=True)
    return stream.getvalue()
