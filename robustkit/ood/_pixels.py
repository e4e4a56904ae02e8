"""Images of any kind brought to the channels and the size that a model takes."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor
from torch.nn import functional

from robustkit.base.errors import UserError

LUMA = (0.299, 0.587, 0.114)  # ITU-R BT.601
Shape = tuple[int, int, int]


class Lazy:
    """Images that are made when asked for, indexed like a float32 tensor (N, C, H, W) in [0, 1].

    Parameters
    ----------
    count : int
        How many there are.
    shape : tuple of int
        ``(C, H, W)`` of each.
    make : callable
        Takes rows int64 (B,), returns float32 (B, C, H, W).
    """

    dtype = torch.float32

    def __init__(self, count: int, shape: Shape, make: Callable[[Tensor], Tensor]) -> None:
        self.shape = (count, *shape)
        self._make = make

    def __getitem__(self, rows: Tensor, /) -> Tensor:
        return self._make(rows)


def adapt(x: Tensor, shape: Shape) -> Tensor:
    """Return images (B, c, h, w), uint8 or float in [0, 1], as float32 (B, C, H, W) in [0, 1].

    Grey is repeated, RGB becomes luma; then all is resized (bilinear, antialiased) until it covers H x W, and the
    centre is cut out. A :class:`UserError` if channels are neither equal nor 1 and 3.
    """
    channels, height, width = shape
    x = x.float() / 255 if x.dtype == torch.uint8 else x.float()
    if x.shape[1] != channels:
        if {x.shape[1], channels} != {1, 3}:
            raise UserError(f"images of {x.shape[1]} channels cannot be brought to {channels}; give grey or RGB.")
        x = x.repeat(1, 3, 1, 1) if channels == 3 else (x * x.new_tensor(LUMA)[:, None, None]).sum(1, keepdim=True)
    h, w = x.shape[2:]
    if (h, w) != (height, width):
        scale = max(height / h, width / w)
        size = [max(height, round(h * scale)), max(width, round(w * scale))]
        x = functional.interpolate(x, size, mode="bilinear", antialias=True, align_corners=False)
        top, left = (size[0] - height) // 2, (size[1] - width) // 2
        x = x[..., top : top + height, left : left + width]
    return x.clamp(0.0, 1.0).contiguous()


def adaptation(given: Shape, shape: Shape) -> str:
    """Return in words what :func:`adapt` does to images (c, h, w)."""
    done = []
    if given[0] != shape[0]:
        done.append("grey repeated to RGB" if given[0] == 1 else "RGB to grey (BT.601 luma)")
    if given[1:] != shape[1:]:
        (h, w), (height, width) = given[1:], shape[1:]
        cut = "" if h * width == w * height else ", centre cut out"
        done.append(f"resized from {h}x{w} to {height}x{width} (bilinear, antialiased{cut})")
    return "; ".join(done) or "none"
