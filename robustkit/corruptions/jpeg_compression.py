"""JPEG compression."""

from __future__ import annotations

import io

import numpy as np
import PIL.Image
import torch
import torchvision
from torch import Tensor

from robustkit.corruptions import corruption
from robustkit.corruptions._common import Random, Table, begin, finish, truncated
from robustkit.functional.precision import divided

IMAGENET = (25, 18, 15, 10, 7)
CIFAR = (80, 65, 58, 50, 40)
TORCHVISION = hasattr(torchvision.io, "encode_jpeg")  # it will give its codecs up one day


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
    """Compress to JPEG and decompress, colour at half the resolution, with libjpeg on the CPU.

    Pixels are truncated to 8-bit levels first, whether or not ``quantize`` is set: JPEG knows no others.
    """
    quality, _ = begin(x, severity, table, IMAGENET, CIFAR)
    levels = (truncated(x.detach().float()) * 255).round_().to(torch.uint8).cpu()
    made = (by_torchvision if TORCHVISION else by_pillow)(levels, quality) if len(x) else levels
    return finish(divided(made.to(x.device).float(), 255), x, quantize)


def by_torchvision(levels: Tensor, quality: int) -> Tensor:
    """Return images (B, C, H, W), uint8, as JPEG leaves them."""
    coded = torchvision.io.encode_jpeg(list(levels), quality)
    return torch.stack(torchvision.io.decode_jpeg(coded))


def by_pillow(levels: Tensor, quality: int) -> Tensor:
    """Return what :func:`by_torchvision` does; four times slower on small images."""
    made = []
    for image in levels.permute(0, 2, 3, 1).numpy():
        with io.BytesIO() as file:
            PIL.Image.fromarray(image.squeeze()).save(file, "JPEG", quality=quality)
            made.append(np.asarray(PIL.Image.open(file)).reshape(image.shape))
    return torch.from_numpy(np.stack(made)).permute(0, 3, 1, 2)
