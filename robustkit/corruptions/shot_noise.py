"""Shot noise."""

from __future__ import annotations

from torch import Tensor

from robustkit.corruptions import corruption
from robustkit.corruptions._common import Random, Table, begin, finish
from robustkit.corruptions._poisson import poisson
from robustkit.functional.sampling import as_generator

IMAGENET = (60.0, 25.0, 12.0, 5.0, 3.0)
CIFAR = (500.0, 250.0, 100.0, 75.0, 50.0)


@corruption(
    "shot_noise",
    family="noise",
    fidelity="exact",
    differentiable=False,
    source="Hendrycks and Dietterich 2019, arXiv:1903.12261",
)
def shot_noise(
    x: Tensor,
    severity: int,
    *,
    table: Table = "auto",
    quantize: bool = True,
    generator: Random = None,
) -> Tensor:
    """Count photons: Poisson(c x) / c, per channel element.

    Draws: one uniform number per element, turned into the count by inverting the distribution function.
    """
    peak, _ = begin(x, severity, table, IMAGENET, CIFAR)
    uniform = as_generator(generator, x).uniform(x.shape[1:], device=x.device)
    return finish(poisson(x.detach(), peak, uniform) / peak, x, quantize)
