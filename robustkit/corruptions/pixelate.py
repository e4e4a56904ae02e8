"""Pixelation."""

from __future__ import annotations

import torch
from torch import Tensor

from robustkit.corruptions import corruption
from robustkit.corruptions._common import Random, Table, begin, finish, rounded
from robustkit.corruptions._filters import box_matrix, on

IMAGENET = (0.6, 0.5, 0.4, 0.3, 0.25)
CIFAR = (0.95, 0.9, 0.85, 0.75, 0.65)


@corruption(
    "pixelate",
    family="digital",
    fidelity="exact",
    differentiable=True,
    source="Hendrycks and Dietterich 2019, arXiv:1903.12261",
)
def pixelate(
    x: Tensor,
    severity: int,
    *,
    table: Table = "auto",
    quantize: bool = True,
    generator: Random = None,
) -> Tensor:
    """Shrink to int(c size) pixels a side and enlarge again, both with Pillow's box filter.

    After each step down one axis, then the other, pixels are rounded to 8-bit levels if ``quantize``, as Pillow does.
    """
    share, _ = begin(x, severity, table, IMAGENET, CIFAR)
    height, width = x.shape[2:]
    low, narrow = int(height * share), int(width * share)
    made = x @ on(box_matrix(width, narrow), x).mT
    made = on(box_matrix(height, low), x) @ (rounded(made) if quantize else made)
    made = rounded(made) if quantize else made
    rows, columns = (
        torch.from_numpy(box_matrix(few, many).argmax(1)).to(x.device)  # enlarged, a row has one weight: nearest
        for few, many in ((low, height), (narrow, width))
    )
    made = made.index_select(2, rows).index_select(3, columns)
    return finish(made, x, quantize)
