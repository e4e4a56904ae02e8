"""LeNets of other people: as ``--arch benchmarks/_lenets.py:openood``."""

from __future__ import annotations

from collections import OrderedDict

from torch import Tensor, nn


def openood(*, channels: int, classes: int) -> nn.Module:
    """Return the LeNet of OpenOOD for 28x28 images, with which the SDDE paper works: its maps are those of ``block2``.

    Convolutions of 5x5 to 6 (padded), 16 and 120 channels, ReLU after each, maximum pooling after the first two, and
    linear layers to 84 and to the classes; torch's own initial weights.
    """
    net = nn.Sequential()
    net.add_module("block1", nn.Sequential(nn.Conv2d(channels, 6, 5, padding=2), nn.ReLU(), nn.MaxPool2d(2)))
    net.add_module("block2", nn.Sequential(nn.Conv2d(6, 16, 5), nn.ReLU(), nn.MaxPool2d(2)))
    net.add_module("block3", nn.Sequential(nn.Conv2d(16, 120, 5), nn.ReLU(), nn.Flatten()))
    net.add_module("head", nn.Sequential(nn.Linear(120, 84), nn.ReLU(), nn.Linear(84, classes)))
    return net


def centred(*, channels: int, classes: int) -> nn.Module:
    """Return the same network behind what OpenOOD makes of pixels in [0, 1]: (x - 0.5) / 0.5."""
    parts = openood(channels=channels, classes=classes).named_children()
    return nn.Sequential(OrderedDict([("centre", _Centre()), *parts]))


class _Centre(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        """Map [0, 1] to [-1, 1]."""
        return 2 * x - 1
