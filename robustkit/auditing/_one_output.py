"""Binary classifiers with one output, a logit or a sigmoid, as networks with a logit for each of two classes."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from robustkit.auditing.behaviour import Finding
from robustkit.auditing.detecting import SIZES, input_channels

PROBE = 16  # images


class TwoClasses(nn.Module):
    """A network with one output for each image behind two: (B, ...) to logits (B, 2).

    A logit z becomes (0, z), whose softmax is the sigmoid; a probability p becomes (log(1 - p), log p).
    """

    def __init__(self, network: nn.Module, *, probabilities: bool) -> None:
        super().__init__()
        self.network, self.probabilities = network, probabilities

    def forward(self, x: Tensor) -> Tensor:
        """Return logits (B, 2)."""
        value = single(self.network(x), len(x))
        assert value is not None
        if not self.probabilities:
            return torch.stack([torch.zeros_like(value), value], 1)
        tiny = torch.finfo(value.dtype).tiny
        return torch.stack([torch.log((1 - value).clamp_min(tiny)), torch.log(value.clamp_min(tiny))], 1)


def single(output: Any, n: int) -> Tensor | None:
    """Return the one number for each of n images (n,) in what a network returned, or None."""
    if isinstance(output, dict):
        output = output.get("logits", next(iter(output.values()), None))
    elif hasattr(output, "logits"):
        output = output.logits
    elif isinstance(output, list | tuple) and output:
        output = output[0]
    fits = isinstance(output, Tensor) and output.is_floating_point() and output.numel() == n and len(output) == n
    return output.flatten() if fits else None


@torch.no_grad()
def as_two_classes(network: nn.Module, x: Tensor, y: Tensor) -> tuple[nn.Module, Finding | None]:
    """Return a network of one output as one of two, and what was found; any other as it is.

    Only where the labels are 0 and 1. It is a probability if it lies in [0, 1] for images and noise of every range.

    Parameters
    ----------
    x, y : Tensor
        Clean images (N, C, H, W) in [0, 1] and their labels (N,), on the network's device.
    """
    if int(y.max()) > 1:
        return network, None
    channels = input_channels(network) or x.shape[1]
    images = x[:PROBE].mean(1, keepdim=True).expand(-1, channels, -1, -1) if channels != x.shape[1] else x[:PROBE]
    noise = torch.randn(images.shape, generator=torch.Generator().manual_seed(0)).to(x.device)
    values = []
    for size in (None, *SIZES):
        try:
            for probe in (images, (images - 0.5) / 0.25, 255 * images, noise, 20 * noise):
                given = probe if size is None else nn.functional.interpolate(probe, (size, size))
                value = single(network(given), len(given))
                if value is None:
                    return network, None
                values.append(value)
            break
        except Exception:  # noqa: BLE001 - a stranger's module may raise anything; it takes another size
            values = []
    if not values:
        return network, None
    every = torch.cat(values)
    probabilities = bool(((every >= 0) & (every <= 1)).all())
    kind, threshold = ("a probability (sigmoid)", "0.5") if probabilities else ("a logit", "0")
    text = f"one number for each image; class 1 above {threshold}, class 0 below; two classes are made of it"
    return TwoClasses(network, probabilities=probabilities), Finding("one output", kind, "detected", text)
