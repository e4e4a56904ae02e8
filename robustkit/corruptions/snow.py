"""Snow."""

from __future__ import annotations

import torch
from torch import Tensor

from robustkit.corruptions import corruption
from robustkit.corruptions._common import Random, Table, begin, finish, truncated
from robustkit.corruptions._filters import zoomed
from robustkit.corruptions._motion import motion_blurred
from robustkit.functional.sampling import as_generator

# mean, deviation, zoom, threshold, radius and sigma in pixels, share of the image
IMAGENET = (
    (0.1, 0.3, 3.0, 0.5, 10.0, 4.0, 0.8),
    (0.2, 0.3, 2.0, 0.5, 12.0, 4.0, 0.7),
    (0.55, 0.3, 4.0, 0.9, 12.0, 8.0, 0.7),
    (0.55, 0.3, 4.5, 0.85, 12.0, 8.0, 0.65),
    (0.55, 0.3, 2.5, 0.85, 12.0, 12.0, 0.55),
)
CIFAR = (
    (0.1, 0.2, 1.0, 0.6, 8.0, 3.0, 0.95),
    (0.1, 0.2, 1.0, 0.5, 10.0, 4.0, 0.9),
    (0.15, 0.3, 1.75, 0.55, 10.0, 4.0, 0.9),
    (0.25, 0.3, 2.25, 0.6, 12.0, 6.0, 0.85),
    (0.3, 0.3, 1.25, 0.65, 14.0, 12.0, 0.8),
)
LUMA = (0.299, 0.587, 0.114)


@corruption(
    "snow",
    family="weather",
    fidelity="near",
    differentiable=True,
    source="Hendrycks and Dietterich 2019, arXiv:1903.12261",
)
def snow(
    x: Tensor,
    severity: int,
    *,
    table: Table = "auto",
    quantize: bool = True,
    generator: Random = None,
) -> Tensor:
    """Lay falling snow over a paler image: m x + (1 - m) max(x, 1.5 grey + 0.5) + s + rot180(s).

    The flakes s are normal noise, enlarged, set to 0 below a threshold, clipped, and blurred along a falling direction
    of each image's own. Draws: a normal number per pixel, then a uniform one, the angle, 45 degrees about straight up
    (the blur goes from a pixel towards it). Differentiable in the image.
    """
    row, scale = begin(x, severity, table, IMAGENET, CIFAR)
    mean, deviation, zoom, threshold, radius, sigma, share = row
    random = as_generator(generator, x)
    layer = zoomed(mean + deviation * random.normal((1, *x.shape[2:]), x.device), max(1.0, zoom * scale))
    layer = torch.where(layer < threshold, 0.0, layer).clamp(0.0, 1.0)
    angle = random.uniform((), -135.0, -45.0, x.device)
    layer = truncated(layer) if quantize else layer
    layer = motion_blurred(layer, radius * scale, sigma * scale, angle, quantize)
    weights = x.new_tensor(LUMA if x.shape[1] == 3 else (1.0,)).view(1, -1, 1, 1)
    pale = torch.maximum(x, (x * weights).sum(1, keepdim=True) * 1.5 + 0.5)
    return finish(share * x + (1 - share) * pale + layer + layer.flip(2, 3), x, quantize)
