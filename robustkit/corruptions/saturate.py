"""Saturation."""

from __future__ import annotations

import torch
from torch import Tensor

from robustkit.corruptions import corruption
from robustkit.corruptions._common import Random, Table, begin, finish

IMAGENET = ((0.3, 0.0), (0.1, 0.0), (2.0, 0.0), (5.0, 0.1), (20.0, 0.2))
CIFAR = ((0.3, 0.0), (0.1, 0.0), (1.5, 0.0), (2.0, 0.1), (2.5, 0.2))


@corruption(
    "saturate",
    family="digital",
    fidelity="exact",
    differentiable=True,
    source="Hendrycks and Dietterich 2019, arXiv:1903.12261",
)
def saturate(
    x: Tensor,
    severity: int,
    *,
    table: Table = "auto",
    quantize: bool = True,
    generator: Random = None,
) -> Tensor:
    """Change the saturation of HSV: a S + b, clipped to [0, 1]; hue and value stay.

    A pixel without colour has hue 0, red, and takes that on where b > 0. A one-channel image has no saturation and
    stays.
    """
    (factor, offset), _ = begin(x, severity, table, IMAGENET, CIFAR)
    if x.shape[1] == 1:
        return finish(x, x, quantize)
    value = x.amax(1, keepdim=True)
    below = value - x  # by how much each channel is less than the largest: value times saturation times a share of hue
    spread = below.amax(1, keepdim=True)
    saturation = spread / value.clamp(min=1e-12)
    wanted = (factor * saturation + offset).clamp(0.0, 1.0)
    red = x.new_tensor([0.0, 1.0, 1.0]).view(1, 3, 1, 1)
    share = torch.where(spread > 0, below / spread.clamp(min=1e-12), red)
    return finish(value * (1 - wanted * share), x, quantize)
