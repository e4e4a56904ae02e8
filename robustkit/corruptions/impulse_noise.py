"""Impulse noise."""

from __future__ import annotations

import torch
from torch import Tensor

from robustkit.corruptions import corruption
from robustkit.corruptions._common import Random, Table, begin, finish
from robustkit.functional.sampling import as_generator

IMAGENET = (0.03, 0.06, 0.09, 0.17, 0.27)
CIFAR = (0.01, 0.02, 0.03, 0.05, 0.07)


@corruption(
    "impulse_noise",
    family="noise",
    fidelity="exact",
    differentiable=True,
    source="Hendrycks and Dietterich 2019, arXiv:1903.12261",
)
def impulse_noise(
    x: Tensor,
    severity: int,
    *,
    table: Table = "auto",
    quantize: bool = True,
    generator: Random = None,
) -> Tensor:
    """Replace a share of the channel elements by 0 or 1 (salt and pepper), both as likely.

    Draws: per element a uniform number that is below the share where the element is replaced, then one that is below
    0.5 where it becomes 1. Differentiable in the elements that stay.
    """
    share, _ = begin(x, severity, table, IMAGENET, CIFAR)
    random = as_generator(generator, x)
    hit = random.uniform(x.shape[1:], device=x.device) < share
    salt = (random.uniform(x.shape[1:], device=x.device) < 0.5).to(x.dtype)
    return finish(torch.where(hit, salt, x), x, quantize)
