"""Networks for 8x8 images that cost a hundredth of a ResNet: for tests in which it does not matter what is learnt."""

from __future__ import annotations

from collections import OrderedDict

from torch import nn


def perceptron(channels: int, classes: int) -> nn.Sequential:
    """One hidden layer of 64 units."""
    return nn.Sequential(
        OrderedDict(
            flatten=nn.Flatten(), hidden=nn.Linear(64 * channels, 64), relu=nn.ReLU(), linear=nn.Linear(64, classes)
        )
    )


def normed(channels: int, classes: int) -> nn.Sequential:
    """A convolution of stride 2 and batch norm, in front of a linear layer."""
    return nn.Sequential(
        OrderedDict(
            conv=nn.Conv2d(channels, 8, 3, stride=2, padding=1), bn=nn.BatchNorm2d(8), relu=nn.ReLU(),
            flatten=nn.Flatten(), linear=nn.Linear(128, classes),
        )
    )  # fmt: skip
