"""A small residual network for 8x8 and 28x28 images."""

from __future__ import annotations

from robustkit.models import model
from robustkit.models._residual import ResNet


@model("small-resnet", source="He et al. 2016, arXiv:1512.03385, one block per stage")
def small_resnet(*, channels: int, classes: int) -> ResNet:
    """ResNet-8 with widths 16, 32, 64 for 8x8 to 28x28 images; trains in seconds on digits."""
    return ResNet(1, channels, classes)
