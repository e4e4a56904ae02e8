"""What a training draws its batches from: the images of a split, on the device or, without room there, beside it."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from robustkit.data import Split
from robustkit.functional.precision import divided
from robustkit.functional.sending import sent

ROOM = 0.5  # of a GPU's free memory that a split may take: a training needs the rest


@dataclass(frozen=True)
class Samples:
    """The images of a split as stored, uint8 or float32 (N, C, H, W), and their labels, on the training's device.

    Where the images would take more than half of a GPU's free memory they stay in the host's, and each batch is sent
    from pinned memory: the host, which waits for nothing in a step, is ahead of the GPU, so that this runs beside its
    work.
    """

    pixels: Tensor
    y: Tensor

    @classmethod
    def of(cls, split: Split, device: torch.device) -> Samples:
        """Move a split to a device, without widening it to floats."""
        x = split.x
        if device.type == "cuda" and x.nbytes > ROOM * torch.cuda.mem_get_info(device)[0]:
            return cls(x, split.y.to(device))
        return cls(x.to(device), split.y.to(device))

    def __len__(self) -> int:
        return len(self.y)

    def images(self, rows: Tensor) -> Tensor:
        """Return some images as float32 in [0, 1], (B, C, H, W); the host waits for rows that are not where it is."""
        x = sent(self.pixels[sent(rows, self.pixels.device)], self.y.device)
        return divided(x.float(), 255) if x.dtype == torch.uint8 else x

    def batch(self, rows: Tensor) -> tuple[Tensor, Tensor]:
        """Return images and labels of some rows, which are the host's own numbers; it waits for nothing."""
        there = sent(rows, self.y.device)
        return self.images(there if self.pixels.device == self.y.device else rows), self.y[there]
