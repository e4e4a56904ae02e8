"""Transverse chromatic aberration."""

from __future__ import annotations

import torch
from torch import Tensor

from robustkit.corruptions import corruption
from robustkit.corruptions._common import Random, Table, begin_bar, finish, rounded
from robustkit.corruptions._filters import on, spline_zoom_matrix
from robustkit.functional.sampling import as_generator

CIFAR = (1.0, 2.0, 5.0, 9.0, 10.0)
IMAGENET = CIFAR


@corruption(
    "transverse_chromatic_abberation",
    family="blur",
    fidelity="exact",
    differentiable=True,
    source="Mintun et al. 2021, arXiv:2102.11273",
)
def transverse_chromatic_abberation(
    x: Tensor,
    severity: int,
    *,
    strength: float | None = None,
    table: Table = "auto",
    quantize: bool = True,
    generator: Random = None,
) -> Tensor:
    """Enlarge each channel differently about the middle, by 1, 1 + m/40 and 1 + m/20, in random order.

    By cubic B-splines without prefilter, so that even the channel that keeps its size is a little blurred; the result
    is rounded to 8-bit levels if ``quantize``. Draws: three uniform numbers, whose order says which channel has which
    scale. The name is spelt as in the published sets.
    """
    level = begin_bar(x, severity, table, strength, IMAGENET, CIFAR)
    order = as_generator(generator, x).uniform((3,), device=x.device).argsort(1)[:, : x.shape[1]]
    height, width = x.shape[2:]
    scales = [1 + level / 40 * i for i in range(3)]
    rows, columns = (
        torch.stack([on(spline_zoom_matrix(n, scale), x) for scale in scales])[order] for n in (height, width)
    )
    made = rows @ x @ columns.mT
    made = made.clamp(0.0, 1.0)
    return finish(rounded(made) if quantize else made, x, quantize)
