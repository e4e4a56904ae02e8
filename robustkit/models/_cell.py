"""The operations of the cell space, its discrete cell, and the stem and reductions that every network has around cells.

Operations as in DARTS (Liu et al. 2019, arXiv:1806.09055): convolutions are ReLU, depthwise, pointwise, batch norm, a
separable one twice; pooling is followed by batch norm, in a search as in the final network. Every operation keeps the
size of its input.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import cast

import torch
from torch import Tensor, nn
from torch.nn import functional

from robustkit.models._genotype import INPUTS, Genotype


class Pooling(nn.Module):
    """Maximum or mean of 3x3 pixels, then batch norm without weights of its own."""

    def __init__(self, kind: str, channels: int) -> None:
        super().__init__()
        self.kind = kind
        self.bn = nn.BatchNorm2d(channels, affine=False)

    def forward(self, x: Tensor) -> Tensor:
        """Map (B, C, H, W) to the same shape."""
        out: Tensor = self.bn(pool(self.kind, x))
        return out


def pool(kind: str, x: Tensor) -> Tensor:
    """Return the maximum or the mean of 3x3 pixels, of those that there are at a border."""
    if kind == "max_pool_3x3":
        return functional.max_pool2d(x, 3, 1, 1)
    return functional.avg_pool2d(x, 3, 1, 1, count_include_pad=False)


class Separable(nn.Sequential):
    """ReLU, depthwise convolution, pointwise convolution, batch norm."""

    def __init__(self, channels: int, kernel: int, dilation: int, affine: bool) -> None:
        super().__init__(
            nn.ReLU(),
            nn.Conv2d(channels, channels, kernel, 1, dilation * (kernel // 2), dilation, groups=channels, bias=False),
            nn.Conv2d(channels, channels, 1, bias=False),
            nn.BatchNorm2d(channels, affine=affine),
        )


def operation(name: str, channels: int, affine: bool = True) -> nn.Module:
    """Build one of ``OPERATIONS``: (B, channels, H, W) to the same shape; ``affine``: its batch norm has weights."""
    if name == "skip_connect":
        return nn.Identity()
    if "pool" in name:
        return Pooling(name, channels)
    kernel = int(name[-1])
    if name.startswith("dil"):
        return Separable(channels, kernel, 2, affine)
    return nn.Sequential(Separable(channels, kernel, 1, affine), Separable(channels, kernel, 1, affine))


class Projection(nn.Module):
    """ReLU, 1x1 convolution, batch norm: an input of a cell brought to its width; halved in size first where asked."""

    def __init__(self, inputs: int, outputs: int, halve: bool) -> None:
        super().__init__()
        self.halve = halve
        self.conv = nn.Conv2d(inputs, outputs, 1, bias=False)
        self.bn = nn.BatchNorm2d(outputs)

    def forward(self, x: Tensor) -> Tensor:
        """Map (B, inputs, H, W) to (B, outputs, H, W), or half of H and W, rounded up."""
        if self.halve:
            x = functional.avg_pool2d(x, 2, ceil_mode=True)
        out: Tensor = self.bn(self.conv(functional.relu(x)))
        return out


def reduction(inputs: int, outputs: int) -> nn.Sequential:
    """Return ReLU, 3x3 convolution of stride 2, batch norm: H and W halved, rounded up."""
    return nn.Sequential(nn.ReLU(), nn.Conv2d(inputs, outputs, 3, 2, 1, bias=False), nn.BatchNorm2d(outputs))


class Cell(nn.Module):
    """A discrete cell between its two projected inputs and the concatenation of its inner nodes.

    Attributes
    ----------
    uses : pair of bool
        Which of the inputs is some node's parent; the other need not be computed.
    """

    def __init__(self, genotype: Genotype, channels: int) -> None:
        super().__init__()
        self.parents = genotype.parents
        self.uses = 0 in self.parents, 1 in self.parents
        self.operations = nn.ModuleList([operation(name, channels) for name in genotype.operations])

    def forward(self, x0: Tensor, x1: Tensor) -> Tensor:
        """Map two inputs (B, channels, H, W) to (B, channels * inner nodes, H, W)."""
        nodes = [x0, x1]
        for parent, act in zip(self.parents, self.operations, strict=True):
            nodes.append(act(nodes[parent]))
        return torch.cat(nodes[INPUTS:], 1)


class CellNetwork(nn.Module):
    """Stem, reduction, cell, reduction, and the other cells at a quarter of the size; global pooling, one linear layer.

    Parameters
    ----------
    cells : sequence of nn.Module
        Each maps two inputs (B, its width, H, W) to (B, ``inner`` x its width, H, W); the first has ``width`` channels,
        the others twice as many. Further arguments of :meth:`forward` are handed to every cell. All use the same
        inputs; what leads to one that is not used is not built.
    inner : int
        Inner nodes of a cell.
    """

    def __init__(self, cells: Sequence[nn.Module], inner: int, channels: int, classes: int, width: int) -> None:
        super().__init__()
        wide, out, wide_out = 2 * width, inner * width, inner * 2 * width
        self.stem = nn.Sequential(nn.Conv2d(channels, width, 3, 1, 1, bias=False), nn.BatchNorm2d(width))
        uses0, uses1 = cast(tuple[bool, bool], cells[0].uses)
        self.reduce1 = reduction(width, width) if uses1 else nn.Identity()
        used = len(cells) == 1 or uses1 or len(cells) > 2
        self.reduce2 = reduction(out, wide) if used else nn.Identity()
        befores = [(width, True), (out, True), (wide, False)] + [(wide_out, False)] * len(cells)
        lasts = [width, wide] + [wide_out] * len(cells)
        widths = [width] + [wide] * (len(cells) - 1)
        self.project0, self.project1 = nn.ModuleList(), nn.ModuleList()
        for (before, halve), last, own in zip(befores, lasts, widths, strict=False):
            self.project0.append(Projection(before, own, halve) if uses0 else nn.Identity())
            self.project1.append(Projection(last, own, False) if uses1 else nn.Identity())
        self.cells = nn.ModuleList(cells)
        self.linear = nn.Linear(wide if len(cells) == 1 else wide_out, classes)

    def forward(self, x: Tensor, *given: Tensor) -> Tensor:
        """Map images (B, C, H, W) to logits (B, L)."""
        before = self.stem(x)
        last = self.reduce1(before)
        for at, cell in enumerate(self.cells):
            out = cell(self.project0[at](before), self.project1[at](last), *given)
            before, last = (out, self.reduce2(out)) if at == 0 else (last, out)
        logits: Tensor = self.linear(functional.relu(last).mean((2, 3)))
        return logits
