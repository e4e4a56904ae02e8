"""Zoom blur."""

from __future__ import annotations

from torch import Tensor

from robustkit.corruptions import corruption
from robustkit.corruptions._common import Random, Table, begin, finish
from robustkit.corruptions._filters import zoomed

# number of enlargements and the step between them
IMAGENET = ((12, 0.01), (16, 0.01), (11, 0.02), (13, 0.02), (11, 0.03))
CIFAR = ((7, 0.01), (12, 0.01), (16, 0.01), (21, 0.01), (26, 0.01))


@corruption(
    "zoom_blur",
    family="blur",
    fidelity="exact",
    differentiable=True,
    source="Hendrycks and Dietterich 2019, arXiv:1903.12261",
)
def zoom_blur(
    x: Tensor,
    severity: int,
    *,
    table: Table = "auto",
    quantize: bool = True,
    generator: Random = None,
) -> Tensor:
    """Average the image and its enlargements: (x + sum_z zoom_z(x)) / (number of z + 1), z = 1, 1 + step, ...

    z = 1 is one of the enlargements, so that the image itself counts twice.
    """
    (count, step), _ = begin(x, severity, table, IMAGENET, CIFAR)
    spacing = (1 + step) - 1  # as NumPy's arange rounds it: a size may hang on the last bit
    total = 2 * x
    for i in range(1, count):
        total += zoomed(x, 1 + i * spacing)
    return finish(total / (count + 1), x, quantize)
