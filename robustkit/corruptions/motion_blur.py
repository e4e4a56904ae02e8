"""Motion blur."""

from __future__ import annotations

from torch import Tensor

from robustkit.corruptions import corruption
from robustkit.corruptions._common import Random, Table, begin, finish
from robustkit.corruptions._motion import motion_blurred
from robustkit.functional.sampling import as_generator

# radius and sigma in pixels
IMAGENET = ((10.0, 3.0), (15.0, 5.0), (15.0, 8.0), (15.0, 12.0), (20.0, 15.0))
CIFAR = ((6.0, 1.0), (6.0, 1.5), (6.0, 2.0), (8.0, 2.0), (9.0, 2.5))


@corruption(
    "motion_blur",
    family="blur",
    fidelity="near",
    differentiable=True,
    source="Hendrycks and Dietterich 2019, arXiv:1903.12261",
)
def motion_blur(
    x: Tensor,
    severity: int,
    *,
    table: Table = "auto",
    quantize: bool = True,
    generator: Random = None,
) -> Tensor:
    """Blur along a line, as a moving camera does, in a direction of its own for each image.

    Within 45 degrees of the right. Weights fall off as one half of a Gaussian (ImageMagick's motion blur). Draws:
    one uniform number, the angle.
    """
    (radius, sigma), scale = begin(x, severity, table, IMAGENET, CIFAR)
    angle = as_generator(generator, x).uniform((), -45.0, 45.0, x.device)
    return finish(motion_blurred(x, radius * scale, sigma * scale, angle, quantize), x, quantize)
