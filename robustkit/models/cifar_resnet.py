"""The CIFAR ResNets of He et al. 2016, section 4.2: 6n + 2 layers, widths 16, 32, 64."""

from __future__ import annotations

from robustkit.models import model
from robustkit.models._residual import ResNet


@model("resnet20", source="He et al. 2016, arXiv:1512.03385")
def resnet20(*, channels: int, classes: int) -> ResNet:
    """ResNet-20 for 32x32 images (three blocks per stage), also used on 28x28."""
    return ResNet(3, channels, classes)


@model("resnet32", source="He et al. 2016, arXiv:1512.03385")
def resnet32(*, channels: int, classes: int) -> ResNet:
    """ResNet-32 for 32x32 images (five blocks per stage)."""
    return ResNet(5, channels, classes)


@model("resnet44", source="He et al. 2016, arXiv:1512.03385")
def resnet44(*, channels: int, classes: int) -> ResNet:
    """ResNet-44 for 32x32 images (seven blocks per stage)."""
    return ResNet(7, channels, classes)


@model("resnet56", source="He et al. 2016, arXiv:1512.03385")
def resnet56(*, channels: int, classes: int) -> ResNet:
    """ResNet-56 for 32x32 images (nine blocks per stage)."""
    return ResNet(9, channels, classes)
