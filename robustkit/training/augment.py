"""Training-time augmentation, batched, on the tensor's own device."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional


def augment(x: Tensor, *, shift: float, flip: bool, generator: torch.Generator) -> Tensor:
    """Shift each image by up to ``shift`` of its size, repeating the edge, and flip every second one if ``flip``.

    x (B, C, H, W); the numbers come from a CPU generator, so that they are the same on every device.
    """
    batch, channels, height, width = x.shape
    dy, dx = (max(1, round(shift * side)) if shift else 0 for side in (height, width))
    if dy or dx:
        padded = functional.pad(x, (dx, dx, dy, dy), mode="replicate")
        top = torch.randint(0, 2 * dy + 1, (batch, 1), generator=generator)
        left = torch.randint(0, 2 * dx + 1, (batch, 1), generator=generator)
        rows = (top + torch.arange(height)).to(x.device)[:, None, :, None]
        columns = (left + torch.arange(width)).to(x.device)[:, None, None, :]
        x = padded.gather(2, rows.expand(batch, channels, height, padded.shape[3]))
        x = x.gather(3, columns.expand(batch, channels, height, width))
    if flip:
        chosen = (torch.rand(batch, generator=generator) < 0.5).to(x.device)
        x = torch.where(chosen[:, None, None, None], x.flip(3), x)
    return x
