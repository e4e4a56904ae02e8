"""Fog."""

from __future__ import annotations

from torch import Tensor

from robustkit.corruptions import corruption
from robustkit.corruptions._common import Random, Table, begin, finish
from robustkit.corruptions._fractal import map_side, plasma
from robustkit.functional.sampling import as_generator

# strength of the fog, decay of the fractal
IMAGENET = ((1.5, 2.0), (2.0, 2.0), (2.5, 1.7), (2.5, 1.5), (3.0, 1.4))
CIFAR = ((0.2, 3.0), (0.5, 3.0), (0.75, 2.5), (1.0, 2.0), (1.5, 1.75))


@corruption(
    "fog",
    family="weather",
    fidelity="exact",
    differentiable=True,
    source="Hendrycks and Dietterich 2019, arXiv:1903.12261",
)
def fog(
    x: Tensor,
    severity: int,
    *,
    table: Table = "auto",
    quantize: bool = True,
    generator: Random = None,
) -> Tensor:
    """Add a plasma fractal p and scale back: (x + c p) max(x) / (max(x) + c), the same in all channels.

    Draws: those of :func:`robustkit.corruptions._fractal.plasma`, on the least power of two that covers the image.
    """
    (amount, decay), _ = begin(x, severity, table, IMAGENET, CIFAR)
    height, width = x.shape[2:]
    clouds = plasma(as_generator(generator, x), map_side(height, width), decay, x.device)[:, None, :height, :width]
    brightest = x.amax((1, 2, 3), keepdim=True)
    return finish((x + amount * clouds) * brightest / (brightest + amount), x, quantize)
