"""A classifier of others behind our contract: images in [0, 1] of the data's shape in, logits out."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from robustkit.auditing.entries import entry
from robustkit.base.names import ChannelOrder, OutputKind

LUMA = (0.299, 0.587, 0.114)  # ITU-R BT.601

# Channel means and standard deviations that training code is known to subtract and divide by, in pixel units [0, 1].
STATISTICS: dict[str, tuple[tuple[float, ...], tuple[float, ...]]] = {
    "none": ((0.0,), (1.0,)),
    "imagenet": ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225)),
    "cifar10": ((0.4914, 0.4822, 0.4465), (0.2470, 0.2435, 0.2616)),
    "cifar10-0.2": ((0.4914, 0.4822, 0.4465), (0.2023, 0.1994, 0.2010)),  # means of the images' own deviations
    "cifar100": ((0.5071, 0.4865, 0.4409), (0.2673, 0.2564, 0.2762)),
    "svhn": ((0.4377, 0.4438, 0.4728), (0.1980, 0.2010, 0.1970)),
    "clip": ((0.4815, 0.4578, 0.4082), (0.2686, 0.2613, 0.2758)),
    "half": ((0.5,), (0.5,)),
    "mnist": ((0.1307,), (0.3081,)),
    "fashionmnist": ((0.2860,), (0.3530,)),
    "caffe": ((0.4850, 0.4580, 0.4076), (1 / 255, 1 / 255, 1 / 255)),  # [0, 255] less ImageNet's mean
}


@dataclass(frozen=True)
class Preprocessing:
    """What happens to images in [0, 1] before a network sees them, and what its outputs are.

    Attributes
    ----------
    mean, std : tuple of float
        Of every channel in the network's order, or one for all, in pixel units [0, 1].
    scale : float
        What the normalised pixels are multiplied by: 255 for a network that takes 0..255.
    order : {"rgb", "bgr"}
        Of the channels.
    channels : int
        That the network takes; grey images are repeated, colours turned to luma.
    size : (int, int) or None
        Height and width that images are resized to, bilinear with antialiasing; None: as they are.
    outputs : {"logits", "probabilities", "log-probabilities"}
        Probabilities become their logarithm, which has the same softmax.
    output : str
        Which of several outputs is taken, by its place (:mod:`robustkit.auditing.entries`); empty: as usual.
    columns : tuple of int
        Of the logits, for each class of the data; empty: they are in the order of the data.
    """

    mean: tuple[float, ...] = (0.0,)
    std: tuple[float, ...] = (1.0,)
    scale: float = 1.0
    order: ChannelOrder = "rgb"
    channels: int = 3
    size: tuple[int, int] | None = None
    outputs: OutputKind = "logits"
    output: str = ""
    columns: tuple[int, ...] = ()

    def to_json(self) -> dict[str, Any]:
        """Return it as plain JSON; of the usual output and order of classes nothing is said."""
        lists = {name: list(getattr(self, name)) for name in ("mean", "std", "columns")}
        plain = {**asdict(self), **lists, "size": list(self.size or ()) or None}
        return {name: value for name, value in plain.items() if value or name not in ("output", "columns")}


class Adapted(nn.Module):
    """A network behind its preprocessing: x (B, C, H, W) in [0, 1] to logits (B, L), differentiable throughout."""

    mean: Tensor
    std: Tensor
    luma: Tensor

    def __init__(self, network: nn.Module, how: Preprocessing) -> None:
        super().__init__()
        self.network, self.how = network, how
        self.register_buffer("mean", torch.tensor(how.mean).view(1, -1, 1, 1), persistent=False)
        self.register_buffer("std", torch.tensor(how.std).view(1, -1, 1, 1), persistent=False)
        self.register_buffer("luma", torch.tensor(LUMA).view(1, 3, 1, 1), persistent=False)

    def forward(self, x: Tensor) -> Tensor:
        """Return logits (B, L)."""
        out = entry(self.answer(x), self.how.output)
        if self.how.columns:
            out = out[:, list(self.how.columns)]
        if self.how.outputs == "probabilities":
            out = torch.log(out.clamp_min(torch.finfo(out.dtype).tiny))
        return out

    def answer(self, x: Tensor) -> Any:
        """Return all that the network returns for images x (B, C, H, W) in [0, 1]."""
        how = self.how
        if x.shape[1] != how.channels:
            x = (x * self.luma).sum(1, keepdim=True) if how.channels == 1 else x.expand(-1, how.channels, -1, -1)
        if how.order == "bgr":
            x = x.flip(1)
        if how.size and tuple(x.shape[2:]) != how.size:
            x = functional.interpolate(x, how.size, mode="bilinear", align_corners=False, antialias=True)
        return self.network((x - self.mean) / self.std * how.scale)
