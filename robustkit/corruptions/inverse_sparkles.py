"""Inverse sparkles."""

from __future__ import annotations

from torch import Tensor

from robustkit.corruptions import _sparkles, corruption
from robustkit.corruptions._common import Random, Table, begin_bar, finish
from robustkit.functional.sampling import as_generator

IMAGENET = (1.0, 2.0, 4.0, 9.0, 10.0)
CIFAR = (1.0, 1.5, 2.5, 4.5, 5.0)


@corruption(
    "inverse_sparkles",
    family="obscure",
    fidelity="exact",
    differentiable=True,
    source="Mintun et al. 2021, arXiv:2102.11273",
)
def inverse_sparkles(
    x: Tensor,
    severity: int,
    *,
    strength: float | None = None,
    table: Table = "auto",
    quantize: bool = True,
    generator: Random = None,
) -> Tensor:
    """Leave only a light with rays of random length of the image; outside of it all is white.

    The mean ray is a quarter of the size; the light ends the more sharply the larger m. Draws: the centre, row and
    column, uniform in the middle half; how many rays, 50 to 199; their lengths, normal.
    """
    level = begin_bar(x, severity, table, strength, IMAGENET, CIFAR)
    random = as_generator(generator, x)
    height, width = x.shape[2:]
    centre = random.uniform((2,), 0.25, 0.75, x.device) * x.new_tensor([height, width])
    count = _sparkles.rays(random, x.device)
    length = _sparkles.lengths(random, 0.25 * min(height, width), x.device)
    return finish(1 + _sparkles.light(x, centre, count, length, 0.13 * level) * (x - 1), x, quantize)
