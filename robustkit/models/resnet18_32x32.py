"""ResNet-18 for 32x32 images, as OpenOOD has it."""

from __future__ import annotations

import torchvision
from torch import nn

from robustkit.models import model


@model("resnet18-32x32", source="He et al. 2016, arXiv:1512.03385; OpenOOD v1.5, arXiv:2306.09301 (ResNet18_32x32)")
def resnet18_32x32(*, channels: int, classes: int) -> nn.Module:
    """ResNet-18 with a 3x3 stem and no pooling after it, for 32x32 images; 11 million parameters."""
    network: nn.Module = torchvision.models.resnet18(num_classes=classes)
    network.conv1 = nn.Conv2d(channels, 64, 3, padding=1, bias=False)
    nn.init.kaiming_normal_(network.conv1.weight, mode="fan_out", nonlinearity="relu")  # as torchvision's others
    network.maxpool = nn.Identity()
    return network
