"""What the first batch norm remembers of the images that a network was trained on: how they were normalised."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from robustkit.auditing.adapting import Adapted, Preprocessing
from robustkit.functional.precision import wide
from robustkit.functional.sampling import SampleGenerator

KNOWN = 0.005  # divergence in nats up to which the images are like those of the training ...
APART = 4.0  # ... and how many times farther the second best has to be
CROPS = 2  # of each image
BATCH = 128


class _Seen(Exception):  # noqa: N818 - it ends a pass early, nothing failed
    def __init__(self, module: nn.BatchNorm2d, given: Tensor) -> None:
        super().__init__()
        self.module, self.given = module, given


def divergence(network: nn.Module, how: Preprocessing, x: Tensor) -> float | None:
    """Return how far the first batch norm's input is from what it remembers, in nats; None: it remembers nothing.

    The mean over channels of KL(N(m, v) || N(running mean, running variance)), m and v those of images x (B, C, H, W)
    in [0, 1] after the preprocessing. As training mostly shows random crops of padded images, whose black borders move
    both, the least of two is returned: with the images as they are, and with crops after padding by an eighth.
    """
    found = [_of(network, how, images) for images in (x, _cropped(x))]
    known = [value for value in found if value is not None]
    return min(known) if known else None


def _of(network: nn.Module, how: Preprocessing, x: Tensor) -> float | None:
    handles = [m.register_forward_pre_hook(_stop) for m in network.modules() if isinstance(m, nn.BatchNorm2d)]
    adapted, count = Adapted(network, how).to(x.device), 0
    total = square = wide(torch.zeros((), device=x.device))
    seen: nn.BatchNorm2d | None = None
    try:
        for part in torch.split(x, BATCH):
            try:
                with torch.no_grad():
                    adapted(part)
            except _Seen as stopped:
                seen, values = stopped.module, wide(stopped.given)
                total = total + values.sum((0, 2, 3))
                square = square + (values**2).sum((0, 2, 3))
                count += values[:, 0].numel()
    finally:
        for handle in handles:
            handle.remove()
    if seen is None or seen.running_mean is None or seen.running_var is None or not count:
        return None
    mean, remembered = total / count, wide(seen.running_var).clamp_min(1e-12)
    ratio = (square / count - mean**2).clamp_min(1e-12) / remembered
    shift = (mean - wide(seen.running_mean)) ** 2 / remembered
    return float((0.5 * (ratio - 1 - ratio.log() + shift)).mean())


def _stop(module: nn.Module, given: tuple[Any, ...]) -> None:
    if isinstance(module, nn.BatchNorm2d) and given and isinstance(given[0], Tensor):
        raise _Seen(module, given[0])


def _cropped(x: Tensor) -> Tensor:
    """Return two random crops of each image, of its own size, after black padding by an eighth of a side."""
    n, _, height, width = x.shape
    down, right = max(1, height // 8), max(1, width // 8)
    padded = functional.pad(x, (right, right, down, down))
    draws = SampleGenerator(0, torch.arange(n), "crops")
    made = []
    for _ in range(CROPS):
        start = (draws.uniform((2,)) * torch.tensor([2 * down + 1, 2 * right + 1])).long().tolist()
        made += [
            image[:, top : top + height, left : left + width] for image, (top, left) in zip(padded, start, strict=True)
        ]
    return torch.stack(made)
