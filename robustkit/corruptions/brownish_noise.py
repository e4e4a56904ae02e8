"""Brownish noise."""

from __future__ import annotations

from torch import Tensor

from robustkit.corruptions import corruption
from robustkit.corruptions._common import Random, Table, begin_bar, finish
from robustkit.corruptions._spectrum import distance, spectral_noise
from robustkit.functional.sampling import as_generator

IMAGENET = (1.0, 2.0, 3.0, 4.0, 5.0)
CIFAR = (2.5, 4.0, 5.5, 6.5, 7.0)


@corruption(
    "brownish_noise",
    family="noise",
    fidelity="exact",
    differentiable=True,
    source="Mintun et al. 2021, arXiv:2102.11273",
)
def brownish_noise(
    x: Tensor,
    severity: int,
    *,
    strength: float | None = None,
    table: Table = "auto",
    quantize: bool = True,
    generator: Random = None,
) -> Tensor:
    """Add noise of amplitude 1 / (f^2 + 1) at frequency f, another in each channel: x + 64/255 m/10 n, deviation 1.

    Draws: those of :func:`robustkit.corruptions._spectrum.spectral_noise`.
    """
    level = begin_bar(x, severity, table, strength, IMAGENET, CIFAR)
    power = 1 / (distance(x.shape[2], x.shape[3], x.device) ** 2 + 1)
    noise = spectral_noise(as_generator(generator, x), power, x.shape[1])
    return finish(x + 6.4 / 255 * level * noise, x, quantize)
