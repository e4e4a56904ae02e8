"""Wide residual networks of Zagoruyko and Komodakis 2016."""

from __future__ import annotations

from torch import Tensor, nn
from torch.nn import functional

from robustkit.models import model
from robustkit.models._residual import he_initialise


class WideBlock(nn.Module):
    """A pre-activation block B(3, 3); the shortcut of a widening block is a 1x1 convolution of the activated input."""

    def __init__(self, inputs: int, outputs: int, stride: int, dropout: float) -> None:
        super().__init__()
        self.bn1 = nn.BatchNorm2d(inputs)
        self.conv1 = nn.Conv2d(inputs, outputs, 3, stride, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(outputs)
        self.conv2 = nn.Conv2d(outputs, outputs, 3, 1, 1, bias=False)
        self.dropout = nn.Dropout(dropout)
        self.shortcut = nn.Conv2d(inputs, outputs, 1, stride, bias=False) if inputs != outputs or stride != 1 else None

    def forward(self, x: Tensor) -> Tensor:
        """Map (B, inputs, H, W) to (B, outputs, H / stride, W / stride)."""
        active = functional.relu(self.bn1(x))
        out = self.conv2(self.dropout(functional.relu(self.bn2(self.conv1(active)))))
        kept: Tensor = out + (x if self.shortcut is None else self.shortcut(active))
        return kept


class WideResNet(nn.Module):
    """WRN-depth-width: three groups of (depth - 4) / 6 blocks, widths 16k, 32k, 64k."""

    def __init__(self, depth: int, width: int, channels: int, classes: int, dropout: float) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(channels, 16, 3, 1, 1, bias=False)
        blocks: list[nn.Module] = []
        inputs = 16
        for group, outputs in enumerate((16 * width, 32 * width, 64 * width)):
            for index in range((depth - 4) // 6):
                blocks.append(WideBlock(inputs, outputs, 2 if group and index == 0 else 1, dropout))
                inputs = outputs
        self.blocks = nn.Sequential(*blocks)
        self.bn1 = nn.BatchNorm2d(inputs)
        self.linear = nn.Linear(inputs, classes)
        he_initialise(self)

    def forward(self, x: Tensor) -> Tensor:
        """Map images (B, C, H, W) to logits (B, L)."""
        out = functional.relu(self.bn1(self.blocks(self.conv1(x))))
        logits: Tensor = self.linear(out.mean((2, 3)))
        return logits


@model("wide-resnet-28-10", source="Zagoruyko and Komodakis 2016, arXiv:1605.07146")
def wide_resnet_28_10(*, channels: int, classes: int, dropout: float = 0.0) -> WideResNet:
    """Wide ResNet-28-10 for 32x32 images, 36.5 million parameters."""
    return WideResNet(28, 10, channels, classes, dropout)
