"""Contrast."""

from __future__ import annotations

from torch import Tensor

from robustkit.corruptions import corruption
from robustkit.corruptions._common import Random, Table, begin, finish

IMAGENET = (0.4, 0.3, 0.2, 0.1, 0.05)
CIFAR = (0.75, 0.5, 0.4, 0.3, 0.15)


@corruption(
    "contrast",
    family="digital",
    fidelity="exact",
    differentiable=True,
    source="Hendrycks and Dietterich 2019, arXiv:1903.12261",
)
def contrast(
    x: Tensor,
    severity: int,
    *,
    table: Table = "auto",
    quantize: bool = True,
    generator: Random = None,
) -> Tensor:
    """Draw every channel towards its mean over the image: (x - mean) c + mean."""
    factor, _ = begin(x, severity, table, IMAGENET, CIFAR)
    mean = x.mean((2, 3), keepdim=True)
    return finish((x - mean) * factor + mean, x, quantize)
