"""JPEG compression."""

from __future__ import annotations

import torch
from torch import Tensor
from torchvision.io import decode_jpeg, encode_jpeg

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
    """Compress to JPEG and decompress, colour at half the resolution, with libjpeg on the CPU.

    Pixels are truncated to 8-bit levels first, whether or not ``quantize`` is set: JPEG knows no others.
    """
    quality, _ = begin(x, severity, table, IMAGENET, CIFAR)
    levels = (truncated(x.detach().float()) * 255).round_().to(torch.uint8).cpu()
    made = decode_jpeg(encode_jpeg(list(levels), quality)) if len(x) else []
    return finish(torch.stack(made).to(x.device) / 255 if made else x, x, quantize)
