"""Spatter."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional

from robustkit.corruptions import corruption
from robustkit.corruptions._canny import averaged, distances, edges, equalized
from robustkit.corruptions._common import Random, Table, begin, finish
from robustkit.corruptions._filters import extended, gaussian
from robustkit.functional.sampling import as_generator

# mean, deviation, sigma in pixels, threshold, amount (of water) or sigma in pixels (of mud), whether it is mud
IMAGENET = (
    (0.65, 0.3, 4.0, 0.69, 0.6, False),
    (0.65, 0.3, 3.0, 0.68, 0.6, False),
    (0.65, 0.3, 2.0, 0.68, 0.5, False),
    (0.65, 0.3, 1.0, 0.65, 1.5, True),
    (0.67, 0.4, 1.0, 0.65, 1.5, True),
)
CIFAR = (
    (0.62, 0.1, 0.7, 0.7, 0.5, False),
    (0.65, 0.1, 0.8, 0.7, 0.5, False),
    (0.65, 0.3, 1.0, 0.69, 0.5, False),
    (0.65, 0.1, 0.7, 0.69, 0.6, True),
    (0.65, 0.1, 0.5, 0.68, 0.6, True),
)
WATER = (175 / 255, 238 / 255, 238 / 255)
MUD = (63 / 255, 42 / 255, 20 / 255)
EMBOSS = ((-2.0, -1.0, 0.0), (-1.0, 1.0, 1.0), (0.0, 1.0, 2.0))
LUMA = (0.299, 0.587, 0.114)


@corruption(
    "spatter",
    family="weather",
    fidelity="exact",
    differentiable=True,
    source="Hendrycks and Dietterich 2019, arXiv:1903.12261",
)
def spatter(
    x: Tensor,
    severity: int,
    *,
    table: Table = "auto",
    quantize: bool = True,
    generator: Random = None,
) -> Tensor:
    """Spatter the lens with water (severities 1 to 3) or mud (4 and 5).

    Drops are where blurred normal noise is above a threshold. Water is pale turquoise, laid on where drops are thick
    and rise from their edges; mud is brown and hides the image. On one channel both take their grey.

    Draws: one normal number per pixel. Differentiable in the image.
    """
    (mean, deviation, sigma, threshold, amount, mud), scale = begin(x, severity, table, IMAGENET, CIFAR)
    noise = mean + deviation * as_generator(generator, x).normal(x.shape[2:], x.device)
    liquid = gaussian(noise, sigma * scale)
    liquid = torch.where(liquid < threshold, 0.0, liquid)
    if mud:
        cover = gaussian((liquid > threshold).float(), amount * scale)
        cover = torch.where(cover < 0.8, 0.0, cover)[:, None]
        return finish(x * (1 - cover) + cover * _colour(x, MUD), x, quantize)
    drops = _drops(liquid)[:, None] * amount
    return finish(x + drops * _colour(x, WATER), x, quantize)


def _drops(liquid: Tensor) -> Tensor:
    """Return how much water is on each pixel, (B, H, W), 1 at most: thickness times embossed distance from edges."""
    levels = torch.floor(liquid * 255) % 256
    away = torch.floor(averaged(distances(edges(levels, 50, 150), 20)) + 1e-4)
    kernel = away.new_tensor(EMBOSS)[None, None]
    risen = functional.conv2d(extended(equalized(away), 1, 1, 1, 1, "mirror")[:, None], kernel)[:, 0].clamp(0, 255)
    water = levels * torch.round(averaged(risen))
    most = water.amax((1, 2), keepdim=True)
    return torch.where(most > 0, water / most.clamp(min=1e-12), 0.0)


def _colour(x: Tensor, colour: tuple[float, float, float]) -> Tensor:
    """Return a colour for the channels of x, (1, C, 1, 1)."""
    grey = sum(weight * part for weight, part in zip(LUMA, colour, strict=True))
    return x.new_tensor(colour if x.shape[1] == 3 else (grey,)).view(1, -1, 1, 1)
