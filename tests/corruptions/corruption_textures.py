"""Stand-ins for the photographs of frost, which are not ours to pass on."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import PIL.Image
import scipy.ndimage

COUNT = 6


def write_textures(folder: Path, height: int = 230, width: int = 240) -> list[np.ndarray]:
    """Write six bright images with needles in all directions, each a pixel taller; return them, (H, W, 3) uint8."""
    images = []
    for i in range(1, COUNT + 1):
        noise = np.random.default_rng(i).standard_normal((height + i, width))
        needles = scipy.ndimage.gaussian_filter(noise, (6, 1)) + scipy.ndimage.gaussian_filter(noise.T, (6, 1)).T[::-1]
        haze = scipy.ndimage.gaussian_filter(noise, 25)
        ice = 150 + 30 * needles / needles.std() + 25 * haze / haze.std()
        grain = np.random.default_rng(100 + i).normal(0, 6, (*ice.shape, 3))
        pixels = np.clip(ice[..., None] * (0.92, 0.98, 1.0) + grain, 0, 255).astype(np.uint8)
        PIL.Image.fromarray(pixels).save(folder / f"frost{i}.png")
        images.append(pixels)
    return images
