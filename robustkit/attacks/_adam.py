"""Adam for a working set of perturbations: its moments, and the rows that leave."""

from __future__ import annotations

import math

import torch
from torch import Tensor

BETA1, BETA2, TINY = 0.9, 0.999, 1e-8


class Adam:
    """The moments of the gradients of a working set, updated in place; see Kingma and Ba 2015, arXiv:1412.6980.

    Parameters
    ----------
    like : Tensor, shape (b, ...)
        What is optimised.
    """

    def __init__(self, like: Tensor) -> None:
        self.mean, self.square, self.steps = torch.zeros_like(like), torch.zeros_like(like), 0

    def update(self, gradient: Tensor) -> tuple[Tensor, float, Tensor]:
        """Note a gradient; return direction, its factor and scale: the step is minus rate * factor * direction / scale.

        ``direction`` belongs to this object and must not be changed.
        """
        self.steps += 1
        self.mean.lerp_(gradient, 1 - BETA1)
        self.square.mul_(BETA2).addcmul_(gradient, gradient, value=1 - BETA2)
        scale = self.square.sqrt().div_(math.sqrt(1 - BETA2**self.steps)).add_(TINY)
        return self.mean, 1 / (1 - BETA1**self.steps), scale

    def keep(self, rows: Tensor) -> None:
        """Go on with some rows of the working set alone."""
        self.mean, self.square = self.mean[rows], self.square[rows]
