"""Speckle noise."""

from __future__ import annotations

from torch import Tensor

from robustkit.corruptions import corruption
from robustkit.corruptions._common import Random, Table, begin, finish
from robustkit.functional.sampling import as_generator

IMAGENET = (0.15, 0.2, 0.35, 0.45, 0.6)
CIFAR = (0.06, 0.1, 0.12, 0.16, 0.2)


@corruption(
    "speckle_noise",
    family="noise",
    fidelity="exact",
    differentiable=True,
    source="Hendrycks and Dietterich 2019, arXiv:1903.12261",
)
def speckle_noise(
    x: Tensor,
    severity: int,
    *,
    table: Table = "auto",
    quantize: bool = True,
    generator: Random = None,
) -> Tensor:
    """Add noise in proportion to the pixel: x + x sigma N(0, 1), per channel element.

    Draws: one normal number per element.
    """
    sigma, _ = begin(x, severity, table, IMAGENET, CIFAR)
    noise = as_generator(generator, x).normal(x.shape[1:], x.device)
    return finish(x + x * sigma * noise, x, quantize)
