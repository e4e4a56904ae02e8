"""What the makers of adversarial training inputs share."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor

from robustkit.attacks._ascent import Model, value_and_gradient
from robustkit.base.errors import UserError
from robustkit.functional.losses import cross_entropy
from robustkit.functional.norms import project, steepest

Craft = Callable[[float], Tensor]


def one_step(model: Model, x: Tensor, y: Tensor, eps: float) -> Tensor:
    """Return x + eps sign(grad_x CE), clipped to [0, 1]: FGSM, without the attack's pass that scores it."""
    _, _, gradient = value_and_gradient(model, x, y, cross_entropy, backward=True)
    return project(x + eps * steepest(gradient, "linf"), x, eps, "linf")


def half_and_half(
    craft: Craft, x: Tensor, y: Tensor, low: float, high: float, generator: torch.Generator
) -> tuple[Tensor, Tensor]:
    """Return x (B, C, H, W) and ``craft(eps)`` of it as one batch of 2B, eps drawn from U(low, high) for the batch."""
    eps = low + (high - low) * float(torch.rand((), generator=generator))
    return torch.cat([x, craft(eps)]), torch.cat([y, y])


def ordered(params: Mapping[str, Any], members: int, classes: int) -> None:
    """Check that the interval of budgets is one."""
    if params["low"] > params["high"]:
        raise UserError(f"low {params['low']:g} is above high {params['high']:g}; eps is drawn between them.")
