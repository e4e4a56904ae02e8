"""Blue noise sample."""

from __future__ import annotations

from torch import Tensor

from robustkit.corruptions import corruption
from robustkit.corruptions._common import Random, Table, begin_bar, finish
from robustkit.corruptions._spectrum import distance, spectral_noise
from robustkit.functional.sampling import as_generator

IMAGENET = (0.8, 1.6, 2.4, 4.0, 5.6)
CIFAR = (0.7, 1.4, 2.1, 3.5, 4.2)


@corruption(
    "blue_noise_sample",
    family="obscure",
    fidelity="exact",
    differentiable=True,
    source="Mintun et al. 2021, arXiv:2102.11273",
)
def blue_noise_sample(
    x: Tensor,
    severity: int,
    *,
    strength: float | None = None,
    table: Table = "auto",
    quantize: bool = True,
    generator: Random = None,
) -> Tensor:
    """Keep the pixels where blue noise of deviation 1 is above 0.3 m - 2.5; the others become black.

    The noise has amplitude f at frequency f. Draws: those of :func:`robustkit.corruptions._spectrum.spectral_noise`.
    """
    level = begin_bar(x, severity, table, strength, IMAGENET, CIFAR)
    power = distance(x.shape[2], x.shape[3], x.device)
    noise = spectral_noise(as_generator(generator, x), power, 1)
    return finish(x * (noise > 0.3 * level - 2.5), x, quantize)
