"""Gaussian blur."""

from __future__ import annotations

from torch import Tensor

from robustkit.corruptions import corruption
from robustkit.corruptions._common import Random, Table, begin, finish
from robustkit.corruptions._filters import gaussian

IMAGENET = (1.0, 2.0, 3.0, 4.0, 6.0)
CIFAR = (0.4, 0.6, 0.7, 0.8, 1.0)


@corruption(
    "gaussian_blur",
    family="blur",
    fidelity="exact",
    differentiable=True,
    source="Hendrycks and Dietterich 2019, arXiv:1903.12261",
)
def gaussian_blur(
    x: Tensor,
    severity: int,
    *,
    table: Table = "auto",
    quantize: bool = True,
    generator: Random = None,
) -> Tensor:
    """Blur with a Gaussian of radius int(4 sigma + 0.5); beyond the image its nearest pixel is read."""
    sigma, scale = begin(x, severity, table, IMAGENET, CIFAR)
    return finish(gaussian(x, sigma * scale), x, quantize)
