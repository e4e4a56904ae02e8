"""Where the images may be: a ball of a norm around each, within [0, 1]."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from robustkit.base.errors import UserError
from robustkit.functional.norms import steepest

NORMS = ("linf", "l2", "l1")


@dataclass(frozen=True)
class Region:
    """Every image at most eps from x (B, C, H, W) in a norm, and in [0, 1].

    A bound over a ball of l2 or l1 is the better one of two: over the whole ball, and over the box around it and
    [0, 1]; each holds over what both have in common.
    """

    x: Tensor
    eps: float
    norm: str

    def __post_init__(self) -> None:
        check_norm(self.norm)

    @property
    def boxed(self) -> bool:
        """Whether the region is a box, of which intervals say everything."""
        return self.norm == "linf"

    def interval(self) -> tuple[Tensor, Tensor]:
        """Return the box around the region."""
        return (self.x - self.eps).clamp_min(0), (self.x + self.eps).clamp_max(1)

    def lower(self, a: Tensor, bias: Tensor) -> Tensor:
        """Return the least value (S, B) over the region of a x + bias, a (S, B, C, H, W) and bias (S, B)."""
        low, high = self.interval()
        box = (a * ((low + high) / 2) - a.abs() * ((high - low) / 2)).flatten(2).sum(-1)
        if self.boxed:
            return box + bias
        flat = a.flatten(2)
        steep = torch.linalg.vector_norm(flat, dim=-1) if self.norm == "l2" else flat.abs().amax(-1)
        ball = (a * self.x).flatten(2).sum(-1) - self.eps * steep
        return torch.maximum(box, ball) + bias

    def least(self, a: Tensor) -> Tensor:
        """Return an image of the region where linear functions a (B, C, H, W) are small; of a box the least."""
        low, high = self.interval()
        if self.boxed:
            return torch.where(a > 0, low, high)
        if self.norm == "l2":
            return (self.x - self.eps * steepest(a, "l2")).clamp(0, 1)
        flat = a.flatten(1)
        place = flat.abs().argmax(1, keepdim=True)
        step = torch.zeros_like(flat).scatter_(1, place, flat.gather(1, place).sign() * self.eps)
        return (self.x - step.view_as(a)).clamp(0, 1)

    def select(self, rows: Tensor) -> Region:
        """Return the region around some of the images."""
        return Region(self.x[rows], self.eps, self.norm)

    def to(self, dtype: torch.dtype) -> Region:
        """Return the region with images of a dtype."""
        return Region(self.x.to(dtype), self.eps, self.norm)


def check_norm(norm: str) -> None:
    """Raise a :class:`UserError` if there are no bounds for a norm."""
    if norm not in NORMS:
        raise UserError(f"norm '{norm}' has no certified bounds; those that have are {', '.join(NORMS)}.")
