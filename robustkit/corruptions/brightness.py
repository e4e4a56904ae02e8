"""Brightness."""

from __future__ import annotations

import torch
from torch import Tensor

from robustkit.corruptions import corruption
from robustkit.corruptions._common import Random, Table, begin, finish

IMAGENET = (0.1, 0.2, 0.3, 0.4, 0.5)
CIFAR = (0.05, 0.1, 0.15, 0.2, 0.3)


@corruption(
    "brightness",
    family="weather",
    fidelity="exact",
    differentiable=True,
    source="Hendrycks and Dietterich 2019, arXiv:1903.12261",
)
def brightness(
    x: Tensor,
    severity: int,
    *,
    table: Table = "auto",
    quantize: bool = True,
    generator: Random = None,
) -> Tensor:
    """Add to the value of HSV: V + c, clipped at 1; hue and saturation stay. A grey image: x + c."""
    amount, _ = begin(x, severity, table, IMAGENET, CIFAR)
    # With hue and saturation fixed, every channel is in proportion to the value; black has neither and becomes grey.
    value = x.amax(1, keepdim=True)
    brighter = (value + amount).clamp(max=1.0)
    return finish(torch.where(value > 0, x * brighter / value.clamp(min=1e-12), brighter), x, quantize)
