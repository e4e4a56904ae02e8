"""A residual network whose depth and widths are lists, and what of the largest one a smaller one is made of."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from torch import Tensor, nn
from torch.nn import functional

from robustkit.base.errors import UserError
from robustkit.models._residual import he_initialise

Groups = dict[str, tuple[str | None, ...]]


@dataclass(frozen=True)
class Lists:
    """Which subnetwork, as Table ii of the design-diversity paper names one.

    Attributes
    ----------
    depth : tuple of int
        Blocks of each stage beyond its first.
    width : tuple of int
        Of the stem and of each stage: the index of its multiplier, 0 the narrowest.
    expansion : tuple of float
        Of each block that a stage can have, stage by stage: its inner channels over its outer ones, in (0, 1]. The
        entries of blocks that are not there count for nothing.
    """

    depth: tuple[int, ...]
    width: tuple[int, ...]
    expansion: tuple[float, ...]


@dataclass(frozen=True)
class Space:
    """What the lists may say.

    Attributes
    ----------
    widths : tuple of int
        Channels of each stage at its widest; its number is the number of stages.
    multipliers : tuple of float
        Of the widths, ascending to 1 (listing 1 of the paper: .6, .8, 1).
    deepest : int
        Blocks that a stage can have beyond its first (OFA's and the paper's: two).
    """

    widths: tuple[int, ...] = (16, 32, 64)
    multipliers: tuple[float, ...] = (0.6, 0.8, 1.0)
    deepest: int = 2

    def check(self, lists: Lists) -> None:
        """Raise a :class:`UserError` that names the list that does not fit."""
        stages, widest = len(self.widths), len(self.multipliers) - 1
        if not self.widths or min(self.widths) < 1:
            raise UserError(f"widths {list(self.widths)} are not channels of stages; write them like 16,32,64.")
        rising = all(a < b for a, b in zip(self.multipliers, self.multipliers[1:], strict=False))
        if not self.multipliers or self.multipliers[0] <= 0 or self.multipliers[-1] != 1 or not rising:
            raise UserError(
                f"width multipliers {list(self.multipliers)} do not ascend from above 0 to 1; write them like .6,.8,1."
            )
        _fits("depth", lists.depth, stages, "each stage", 0, self.deepest)
        _fits("width", lists.width, stages + 1, "the stem and each stage", 0, widest)
        blocks = stages * (self.deepest + 1)
        _fits("expansion", lists.expansion, blocks, f"each of {self.deepest + 1} blocks of each stage", 0, 1)
        if min(lists.expansion) == 0:
            raise UserError(f"expansion {list(lists.expansion)} holds a 0; each must be above 0, and 1 at most.")

    def sizes(self, lists: Lists) -> dict[str, int]:
        """Return the channels of each group: ``stem``, ``stage1``, ..., and ``stage1.0``, the inside of a block."""
        stem, *of_stages = (self.multipliers[index] for index in lists.width)
        sizes = {"stem": _part(stem, self.widths[0])}
        for stage, (width, share) in enumerate(zip(self.widths, of_stages, strict=True)):
            sizes[f"stage{stage + 1}"] = outer = _part(share, width)
            for block in range(1 + lists.depth[stage]):
                expansion = lists.expansion[stage * (self.deepest + 1) + block]
                sizes[f"stage{stage + 1}.{block}"] = _part(expansion, outer)
        return sizes


class ElasticBlock(nn.Module):
    """Two 3x3 convolutions of any inner width; the shortcut of a stage's first block is a 1x1 convolution."""

    def __init__(self, inputs: int, inside: int, outputs: int, stride: int, first: bool) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(inputs, inside, 3, stride, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(inside)
        self.conv2 = nn.Conv2d(inside, outputs, 3, 1, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(outputs)
        self.shortcut = (
            nn.Sequential(nn.Conv2d(inputs, outputs, 1, stride, bias=False), nn.BatchNorm2d(outputs))
            if first
            else nn.Identity()
        )

    def forward(self, x: Tensor) -> Tensor:
        """Map (B, inputs, H, W) to (B, outputs, H / stride, W / stride)."""
        out = self.bn2(self.conv2(functional.relu(self.bn1(self.conv1(x)))))
        return functional.relu(out + self.shortcut(x))


class ElasticResNet(nn.Module):
    """A 3x3 stem, stages of blocks, global average pooling, one linear layer; every stage but the first halves H and W.

    Attributes
    ----------
    groups : dict
        Of each weight and buffer by name, to which group of channels each of its dimensions belongs; None: to none
        that can be chosen. Weights that share a group are cut, and put into another order, together.
    """

    def __init__(self, space: Space, lists: Lists, channels: int, classes: int) -> None:
        super().__init__()
        space.check(lists)
        self.space, self.lists = space, lists
        sizes = space.sizes(lists)
        self.conv1 = nn.Conv2d(channels, sizes["stem"], 3, 1, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(sizes["stem"])
        self.groups: Groups = {"conv1.weight": ("stem", None), "linear.weight": (None, f"stage{len(space.widths)}")}
        self._of_norm("bn1", "stem")
        before = "stem"
        for stage, extra in enumerate(lists.depth):
            here, layer = f"stage{stage + 1}", []
            for block in range(1 + extra):
                inside = f"{here}.{block}"
                stride = 2 if stage and not block else 1
                layer.append(ElasticBlock(sizes[before], sizes[inside], sizes[here], stride, first=not block))
                self._of_block(f"layer{stage + 1}.{block}", before, inside, here, first=not block)
                before = here
            self.add_module(f"layer{stage + 1}", nn.Sequential(*layer))
        self.linear = nn.Linear(sizes[before], classes)
        he_initialise(self)

    def _of_block(self, name: str, before: str, inside: str, here: str, first: bool) -> None:
        self.groups |= {f"{name}.conv1.weight": (inside, before), f"{name}.conv2.weight": (here, inside)}
        self._of_norm(f"{name}.bn1", inside)
        self._of_norm(f"{name}.bn2", here)
        if first:
            self.groups[f"{name}.shortcut.0.weight"] = (here, before)
            self._of_norm(f"{name}.shortcut.1", here)

    def _of_norm(self, name: str, group: str) -> None:
        self.groups |= {f"{name}.{part}": (group,) for part in ("weight", "bias", "running_mean", "running_var")}

    def forward(self, x: Tensor) -> Tensor:
        """Map images (B, C, H, W) to logits (B, L)."""
        out = functional.relu(self.bn1(self.conv1(x)))
        for stage in range(len(self.space.widths)):
            out = self.get_submodule(f"layer{stage + 1}")(out)
        logits: Tensor = self.linear(out.mean((2, 3)))
        return logits


def _part(share: float, whole: int) -> int:
    return max(1, math.floor(share * whole + 0.5))


def _fits(name: str, values: Sequence[float], count: int, of: str, low: float, high: float) -> None:
    if len(values) != count:
        raise UserError(f"{name} {list(values)} has {len(values)} numbers; give {count}, one for {of}.")
    for value in values:
        if isinstance(value, float) and name != "expansion":
            raise UserError(f"{name} {list(values)} holds {value:g}; each must be a whole number.")
        if not low <= value <= high:
            raise UserError(f"{name} {list(values)} holds {value:g}; each must be in [{low:g}, {high:g}].")
