"""The residual network of He et al. 2016 for small images, option A shortcuts; used by every ResNet here."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor, nn
from torch.nn import functional


class BasicBlock(nn.Module):
    """Two 3x3 convolutions and a parameter-free shortcut (He et al. 2016, option A: subsample, pad with zeros)."""

    def __init__(self, inputs: int, outputs: int, stride: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(inputs, outputs, 3, stride, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(outputs)
        self.conv2 = nn.Conv2d(outputs, outputs, 3, 1, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(outputs)
        self.stride, self.padding = stride, outputs - inputs

    def forward(self, x: Tensor) -> Tensor:
        """Map (B, inputs, H, W) to (B, outputs, H / stride, W / stride)."""
        out = self.bn2(self.conv2(functional.relu(self.bn1(self.conv1(x)))))
        if self.stride != 1:
            x = x[:, :, :: self.stride, :: self.stride]
        if self.padding:
            x = functional.pad(x, (0, 0, 0, 0, self.padding // 2, self.padding - self.padding // 2))
        return functional.relu(out + x)


class ResNet(nn.Module):
    """A 3x3 stem, stages of basic blocks, global average pooling, one linear layer.

    The parameter names are those of the public CIFAR ResNet-20 checkpoints (``conv1``, ``bn1``, ``layer1.0.conv1``,
    ..., ``linear``), so that these load unchanged.
    """

    def __init__(self, blocks: int, channels: int, classes: int, widths: Sequence[int] = (16, 32, 64)) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(channels, widths[0], 3, 1, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(widths[0])
        self.stages = len(widths)
        inputs = widths[0]
        for index, width in enumerate(widths):
            strides = [1 if index == 0 else 2] + [1] * (blocks - 1)
            layer = []
            for stride in strides:
                layer.append(BasicBlock(inputs, width, stride))
                inputs = width
            self.add_module(f"layer{index + 1}", nn.Sequential(*layer))
        self.linear = nn.Linear(inputs, classes)
        he_initialise(self)

    def forward(self, x: Tensor) -> Tensor:
        """Map images (B, C, H, W) to logits (B, L)."""
        out = functional.relu(self.bn1(self.conv1(x)))
        for index in range(self.stages):
            out = getattr(self, f"layer{index + 1}")(out)  # torch 2.6 exports no get_submodule
        logits: Tensor = self.linear(out.mean((2, 3)))
        return logits


def he_initialise(network: nn.Module) -> None:
    """Draw convolution and linear weights from He et al. 2015 (fan in), zero the biases."""
    for module in network.modules():
        if isinstance(module, nn.Conv2d | nn.Linear):
            nn.init.kaiming_normal_(module.weight)
            if module.bias is not None:
                nn.init.zeros_(module.bias)
