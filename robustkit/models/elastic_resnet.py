"""The elastic residual network: its largest form, and every subnetwork by its depth, width and expansion lists."""

from __future__ import annotations

from collections.abc import Sequence

from robustkit.base.errors import UserError
from robustkit.models import model
from robustkit.models._elastic import ElasticResNet, Lists, Space


@model("elastic-resnet", source="Cai et al. 2020, arXiv:1908.09791 (Once-for-All), its ResNet; He et al. 2016, 4.2")
def elastic_resnet(
    *,
    channels: int,
    classes: int,
    depth: Sequence[int] = (2, 2, 2),
    width: Sequence[int] = (2, 2, 2, 2),
    expansion: Sequence[float] = (1.0, 1.0, 1.0, 1.0, 1.0, 1.0, 1.0, 1.0, 1.0),
    widths: Sequence[int] = (16, 32, 64),
    multipliers: Sequence[float] = (0.6, 0.8, 1.0),
) -> ElasticResNet:
    """ResNet of chosen depth and widths for 8x8 to 32x32 images: a subnetwork of `search supernet`, or its largest."""
    if not expansion or len(expansion) % max(1, len(widths)):
        raise UserError(
            f"expansion {list(expansion)} has {len(expansion)} numbers; give as many for each of {len(widths)} stages."
        )
    space = Space(tuple(widths), tuple(multipliers), len(expansion) // max(1, len(widths)) - 1)
    return ElasticResNet(space, Lists(tuple(depth), tuple(width), tuple(expansion)), channels, classes)
