"""Reading images at places between the pixels."""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor
from torch.nn import functional

Beyond = Literal["zero", "mirror", "reflect"]


def sample(x: Tensor, rows: Tensor, columns: Tensor, beyond: Beyond) -> Tensor:
    """Interpolate x bilinearly at given places.

    Parameters
    ----------
    x : Tensor
        Images (B, C, H, W).
    rows, columns : Tensor
        Places in pixels, broadcastable to (B, H', W'); 0 is the centre of the first pixel.
    beyond : {"zero", "mirror", "reflect"}
        What is read outside: black pixels; the image turned over at the centre of its last pixel; or at that pixel's
        outer edge.

    Returns
    -------
    Tensor
        (B, C, H', W').
    """
    height, width = x.shape[-2:]
    nothing = torch.zeros_like(rows * columns)
    rows, columns = rows + nothing, columns + nothing
    corners = beyond != "reflect"
    places = torch.stack([_scaled(columns, width, corners), _scaled(rows, height, corners)], -1)
    places = places.to(x.dtype).expand(len(x), -1, -1, -1)
    padding = "zeros" if beyond == "zero" else "reflection"
    return functional.grid_sample(x, places, mode="bilinear", padding_mode=padding, align_corners=corners)


def _scaled(at: Tensor, n: int, corners: bool) -> Tensor:
    """Return pixels as the coordinates in [-1, 1] that torch reads at."""
    return at * (2 / (n - 1)) - 1 if corners else (2 * at + 1) / n - 1
