"""JPEG compression."""

from __future__ import annotations

import io

import numpy as np
import PIL.Image
import torch
from torch import Tensor

from robustkit.corruptions import corruption
from robustkit.corruptions._common import Random, Table, begin, finish, truncated

IMAGENET = (25, 18, 15, 10, 7)
CIFAR = (80, 65, 58, 50, 40)


@corruption(
    "jpeg_compression",
    family="digital",
    fidelity="exact",
    differentiable=False,
    source="Hendrycks and Dietterich 2019, arXiv:1903.12261",
)
def jpeg_compression(
    x: Tensor,
    severity: int,
    *,
    table: Table = "auto",
    quantize: bool = True,
    generator: Random = None,
) -> Tensor:
    """Compress to JPEG and decompress, colour at half the resolution, with Pillow on the CPU.

    Pixels are truncated to 8-bit levels first, whether or not ``quantize`` is set: JPEG knows no others.
    """
    quality, _ = begin(x, severity, table, IMAGENET, CIFAR)
    levels = (truncated(x.detach().float()) * 255).round().to(torch.uint8).permute(0, 2, 3, 1).cpu().numpy()
    made = np.zeros_like(levels)
    for row, image in enumerate(levels):
        with io.BytesIO() as file:
            PIL.Image.fromarray(image.squeeze()).save(file, "JPEG", quality=quality)
            made[row] = np.asarray(PIL.Image.open(file)).reshape(image.shape)
    return finish(torch.from_numpy(made).permute(0, 3, 1, 2).to(x.device).float() / 255, x, quantize)
