"""Frost."""

from __future__ import annotations

from torch import Tensor

from robustkit.corruptions import corruption
from robustkit.corruptions._common import Random, Table, begin, finish, table_for
from robustkit.corruptions._frost import grown, photographed
from robustkit.functional.sampling import as_generator

# share of the image, share of the frost
IMAGENET = ((1.0, 0.4), (0.8, 0.6), (0.7, 0.7), (0.65, 0.7), (0.6, 0.75))
CIFAR = ((1.0, 0.2), (1.0, 0.3), (0.9, 0.4), (0.85, 0.4), (0.75, 0.45))
SHRINK = 0.2  # of the photographs, for images of 32 px


@corruption(
    "frost",
    family="weather",
    fidelity="distribution",
    differentiable=True,
    source="Hendrycks and Dietterich 2019, arXiv:1903.12261",
)
def frost(
    x: Tensor,
    severity: int,
    *,
    textures: str = "",
    table: Table = "auto",
    quantize: bool = True,
    generator: Random = None,
) -> Tensor:
    """Look through a frosted window: a x + b frost.

    The published frost is cut from photographs that are not ours to pass on. Without them crystals are grown from
    noise: bright, bluish and rough, but another texture, so that numbers are not comparable with published ones. With
    them the corruption is the published one: a random crop of one of the first five; at 32 px, of a copy a fifth of
    its size.

    Draws, with ``textures``: which photograph, then the top and the left of the crop, integers.

    Parameters
    ----------
    textures : str
        A folder with the photographs, frost1.png to frost5.jpg, read in the order of their names.
    """
    (share, amount), scale = begin(x, severity, table, IMAGENET, CIFAR)
    random = as_generator(generator, x)
    if textures:
        name, _ = table_for(x.shape[2], x.shape[3], table)
        ice = photographed(random, x, textures, scale * (SHRINK if name == "cifar" else 1.0))
    else:
        ice = grown(random, x)
    return finish(share * x + amount * ice, x, quantize)
