"""Sparkles."""

from __future__ import annotations

from torch import Tensor

from robustkit.corruptions import _sparkles, corruption
from robustkit.corruptions._common import Random, Table, begin_bar, finish
from robustkit.functional.sampling import as_generator

IMAGENET = (1.0, 2.0, 3.0, 5.0, 6.0)
CIFAR = (0.7, 3.5, 5.6, 6.3, 7.0)


@corruption(
    "sparkles",
    family="obscure",
    fidelity="exact",
    differentiable=True,
    source="Mintun et al. 2021, arXiv:2102.11273",
)
def sparkles(
    x: Tensor,
    severity: int,
    *,
    strength: float | None = None,
    table: Table = "auto",
    quantize: bool = True,
    generator: Random = None,
) -> Tensor:
    """Draw five white lights with rays of random length, one over the other.

    Their mean ray is m/100 of the size and at least a pixel. Draws: five centres, row and column, uniform over the
    image; then for each light how many rays, 50 to 199, and their lengths, normal.
    """
    level = begin_bar(x, severity, table, strength, IMAGENET, CIFAR)
    random = as_generator(generator, x)
    height, width = x.shape[2:]
    radius = 0.01 * level * min(height, width)
    centres = random.uniform((5, 2), device=x.device) * x.new_tensor([height, width])
    made = x
    for i in range(5):
        count = _sparkles.rays(random, x.device)
        length = _sparkles.lengths(random, radius, x.device).clamp(min=1.0)
        made = made + _sparkles.light(x, centres[:, i], count, length, 1.0) * (1 - made)
    return finish(made, x, quantize)
