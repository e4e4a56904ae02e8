"""The small convolutional network of alpha-beta-CROWN's ``cnn_a`` models, whose robust accuracy a verifier brackets."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from robustkit.ensembles.ensemble import Normalize

CIFAR = ((0.491373, 0.482353, 0.446667), (0.247059, 0.243529, 0.261569))  # mean and deviation it was trained with
SIDE = {1: 28, 3: 32}  # of MNIST's and CIFAR-10's images, by channels


def cnn_a(channels: int, classes: int) -> nn.Sequential:
    """Return the network: two convolutions of stride 2, two linear layers."""
    side = SIDE[channels] // 4
    return nn.Sequential(
        nn.Conv2d(channels, 16, 4, 2, 1), nn.ReLU(), nn.Conv2d(16, 32, 4, 2, 1), nn.ReLU(), nn.Flatten(),
        nn.Linear(32 * side * side, 100), nn.ReLU(), nn.Linear(100, classes),
    )  # fmt: skip


def published(weights: Path, images: Path) -> tuple[nn.Sequential, Tensor, Tensor]:
    """Return the network of a file of weights, on images in [0, 1], and a .npz's images (N, C, H, W) and labels."""
    held = np.load(images)
    x, y = torch.from_numpy(held["x"]).permute(0, 3, 1, 2).contiguous(), torch.from_numpy(held["y"])
    network = cnn_a(x.shape[1], 10)
    network.load_state_dict(torch.load(weights, map_location="cpu", weights_only=True))
    return (nn.Sequential(Normalize(*CIFAR), *network) if x.shape[1] == 3 else network), x, y
