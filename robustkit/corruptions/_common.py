"""What every corruption begins and ends with: checks, the constants of a severity, and 8-bit levels."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal, TypeAlias, TypeVar

import torch
from torch import Tensor

from robustkit.base.errors import UserError
from robustkit.functional.precision import divided
from robustkit.functional.sampling import SampleGenerator

Table: TypeAlias = Literal["auto", "imagenet", "cifar"]
Random: TypeAlias = SampleGenerator | torch.Generator | int | None
Row = TypeVar("Row")

SIDES = {"imagenet": 224, "cifar": 32}  # pixels for which a table of constants was published
BETWEEN = 84  # the geometric mean of the two: up to here the table for 32 px is the nearer one
SMALLEST = 8
GUARD = 2.0**-10  # of a level: float32 rounding must not turn level k into k - 1


def table_for(height: int, width: int, table: Table = "auto") -> tuple[str, float]:
    """Return the name of the table of constants for a size in pixels, and the scale of lengths against it."""
    side = min(height, width)
    name = table if table != "auto" else "cifar" if side <= BETWEEN else "imagenet"
    return name, side / SIDES[name]


def begin(x: Tensor, severity: int, table: Table, imagenet: Sequence[Row], cifar: Sequence[Row]) -> tuple[Row, float]:
    """Check images and severity; return the severity's constants and the factor for constants that are in pixels.

    Parameters
    ----------
    x : Tensor
        float32 or float64 in [0, 1], (B, C, H, W), C 1 or 3, at least 8x8 pixels.
    severity : int
        1 to 5.
    table : {"auto", "imagenet", "cifar"}
        Constants for 224 px, for 32 px, or whichever is nearer to the size of x.
    imagenet, cifar : sequence
        The five rows of either table.

    Raises
    ------
    UserError
        Naming what is wrong with x, the severity or the table.
    """
    check(x)
    if isinstance(severity, bool) or severity not in (1, 2, 3, 4, 5):
        raise UserError(f"severity {severity} is out of range; it must be 1, 2, 3, 4 or 5.")
    if table not in ("auto", *SIDES):
        raise UserError(f"table '{table}' is unknown; write auto, imagenet or cifar.")
    name, scale = table_for(x.shape[2], x.shape[3], table)
    return (imagenet if name == "imagenet" else cifar)[int(severity) - 1], scale


def begin_bar(
    x: Tensor, severity: int, table: Table, strength: float | None, imagenet: Sequence[float], cifar: Sequence[float]
) -> float:
    """Check as :func:`begin` does; return the strength m of a C-bar corruption, given or that of the severity."""
    chosen, _ = begin(x, severity, table, imagenet, cifar)
    if strength is None:
        return chosen
    if not 0 <= strength <= 10:
        raise UserError(f"strength {strength:g} is out of range; it must be in [0, 10].")
    return strength


def check(x: Tensor) -> None:
    """Raise a :class:`UserError` unless x is a batch of images as every corruption takes them."""
    if not isinstance(x, Tensor) or x.ndim != 4 or x.shape[1] not in (1, 3):
        shape = tuple(x.shape) if isinstance(x, Tensor) else type(x).__name__
        raise UserError(f"images of shape {shape} cannot be corrupted; give (B, C, H, W) with C 1 or 3.")
    if x.dtype not in (torch.float32, torch.float64):
        how = "x.float()" if x.is_floating_point() else "x.float() / 255"
        raise UserError(f"images of {x.dtype} cannot be corrupted; give floats in [0, 1], like {how}.")
    if min(x.shape[2:]) < SMALLEST:
        raise UserError(
            f"images of {x.shape[2]}x{x.shape[3]} pixels are too small; the least is {SMALLEST}x{SMALLEST}."
        )
    if x.numel():
        low, high = (float(v) for v in torch.aminmax(x.detach()))
        if not (low >= 0 and high <= 1):  # also where one is NaN
            raise UserError(f"pixels from {low:g} to {high:g} are outside [0, 1]; scale them, or clip them with clamp.")


def finish(made: Tensor, x: Tensor, quantize: bool) -> Tensor:
    """Clip to [0, 1], truncate to 8-bit levels if ``quantize``, and return the dtype of x."""
    made = made.clamp(0.0, 1.0)
    return (truncated(made) if quantize else made).to(x.dtype)


def truncated(x: Tensor) -> Tensor:
    """Return x in [0, 1] truncated to the levels k/255, as casting 255 x to uint8 does."""
    return divided(torch.floor(x * 255 + GUARD).clamp_(max=255), 255)


def rounded(x: Tensor) -> Tensor:
    """Return x in [0, 1] at the nearest of the levels k/255, halves up."""
    return divided(torch.floor(x * 255 + 0.5), 255)


def column(values: Tensor, dims: int = 3) -> Tensor:
    """Return one value per sample (B,) as (B, 1, ..., 1) with ``dims`` trailing axes."""
    return values.view(-1, *[1] * dims)


def grid(x: Tensor) -> tuple[Tensor, Tensor]:
    """Return the row (H, 1) and column (1, W) numbers of the pixels, in the floating dtype that x is computed in."""
    rows = torch.arange(x.shape[2], device=x.device, dtype=torch.float32)
    columns = torch.arange(x.shape[3], device=x.device, dtype=torch.float32)
    return rows[:, None], columns[None, :]
