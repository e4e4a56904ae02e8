"""LeNets of other people: as ``--arch benchmarks/_lenets.py:openood``."""

from __future__ import annotations

from torch import nn


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
