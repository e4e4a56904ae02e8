"""Training-time augmentation, batched, on the tensor's own device."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional

from robustkit.functional.sending import sent


def augment(x: Tensor, *, shift: float, flip: bool, generator: torch.Generator) -> Tensor:
    """Shift each image by up to ``shift`` of its size, repeating the edge, and flip every second one if ``flip``.

    x (B, C, H, W); the numbers come from a CPU generator, so that they are the same on every device.
    """
    batch, channels, height, width = x.shape
    dy, dx = (max(1, round(shift * side)) if shift else 0 for side in (height, width))
    moved = bool(dy or dx)
    drawn = []
    if moved:
        drawn += [torch.randint(0, 2 * most + 1, (batch, 1), generator=generator) for most in (dy, dx)]
    if flip:
        drawn.append((torch.rand(batch, generator=generator) < 0.5).long()[:, None])
    if not drawn:
        return x
    here = sent(torch.cat(drawn, 1), x.device)[:, :, None, None, None]  # one copy for all that was drawn
    if moved:
        padded = functional.pad(x, (dx, dx, dy, dy), mode="replicate")
        rows = here[:, 0] + torch.arange(height, device=x.device)[:, None]
        columns = here[:, 1] + torch.arange(width, device=x.device)
        x = padded.gather(2, rows.expand(batch, channels, height, padded.shape[3]))
        x = x.gather(3, columns.expand(batch, channels, height, width))
    return torch.where(here[:, -1].bool(), x.flip(3), x) if flip else x
