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
        out = _on_grid(out)
        out = functional.relu(self.fc2(functional.relu(self.fc1(torch.flatten(out, 1)))))
        logits: Tensor = self.fc3(out)
        return logits


def _on_grid(x: Tensor, side: int = GRID) -> Tensor:
    """Return means on the grid that the linear layers expect.

    Maps of that size, of 28x28 images, are their own means, which take a tenth of a training step's time to compute;
    but a pass that is recorded, scripted or compiled has to hold for other sizes, too.
    """
    if torch.jit.is_scripting():  # type: ignore[attr-defined]
        grid = functional.adaptive_avg_pool2d(x, side)
    else:  # is not scripted
        own = not _recorded(x) and x.shape[2:] == (side, side)
        grid = x if own else functional.adaptive_avg_pool2d(x, side)
    return grid


def _recorded(x: Tensor) -> bool:
    tracing: bool = torch.jit.is_tracing()  # type: ignore[attr-defined, no-untyped-call]
    return tracing or torch.compiler.is_compiling() or not isinstance(x, Tensor)  # torch.fx has a proxy here


@model("lenet", source="LeCun et al. 1998, with ReLU and max pooling")
def lenet(*, channels: int, classes: int) -> LeNet:
    """LeNet-5 with ReLU for 28x28 images; other sizes are pooled to the 7x7 grid that its linear layers expect."""
    return LeNet(channels, classes)
