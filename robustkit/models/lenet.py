"""LeNet-5, as used on MNIST."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

from robustkit.models import model
from robustkit.models._residual import he_initialise

GRID = 7  # places a side of what the linear layers are given


class LeNet(nn.Module):
    """Two 5x5 convolutions with max pooling, then three linear layers."""

    def __init__(self, channels: int, classes: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(channels, 6, 5, padding=2)
        self.conv2 = nn.Conv2d(6, 16, 5, padding=2)
        self.fc1 = nn.Linear(16 * GRID * GRID, 120)
        self.fc2 = nn.Linear(120, 84)
        self.fc3 = nn.Linear(84, classes)
        he_initialise(self)

    def forward(self, x: Tensor) -> Tensor:
        """Map images (B, C, H, W), 8x8 or larger, to logits (B, L)."""
        out = functional.max_pool2d(functional.relu(self.conv1(x)), 2)
        out = functional.max_pool2d(functional.relu(self.conv2(out)), 2)
        if out.shape[2:] != (GRID, GRID):  # a mean over one value each is a tenth of a training step's time
            out = functional.adaptive_avg_pool2d(out, GRID)
        out = functional.relu(self.fc2(functional.relu(self.fc1(torch.flatten(out, 1)))))
        logits: Tensor = self.fc3(out)
        return logits


@model("lenet", source="LeCun et al. 1998, with ReLU and max pooling")
def lenet(*, channels: int, classes: int) -> LeNet:
    """LeNet-5 with ReLU for 28x28 images; other sizes are pooled to the 7x7 grid that its linear layers expect."""
    return LeNet(channels, classes)
