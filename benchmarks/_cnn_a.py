"""The small convolutional network of alpha-beta-CROWN's ``cnn_a`` models, whose robust accuracy a verifier brackets."""

from __future__ import annotations

from torch import nn

CIFAR = ((0.491373, 0.482353, 0.446667), (0.247059, 0.243529, 0.261569))  # mean and deviation it was trained with
SIDE = {1: 28, 3: 32}  # of MNIST's and CIFAR-10's images, by channels


def cnn_a(channels: int, classes: int) -> nn.Module:
    """Return the network: two convolutions of stride 2, two linear layers."""
    side = SIDE[channels] // 4
    return nn.Sequential(
        nn.Conv2d(channels, 16, 4, 2, 1), nn.ReLU(), nn.Conv2d(16, 32, 4, 2, 1), nn.ReLU(), nn.Flatten(),
        nn.Linear(32 * side * side, 100), nn.ReLU(), nn.Linear(100, classes),
    )  # fmt: skip
