"""Per-sample losses that attacks maximise, on logits or log-probabilities z (B, L) and labels y (B,).

All are invariant to adding a constant to a row, so logits and log-probabilities give the same values.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal

import torch
from torch import Tensor
from torch.nn import functional

from robustkit.base.chances import HALFWAY, ROUNDING

Loss = Literal["ce", "margin", "dlr"]


def cross_entropy(z: Tensor, y: Tensor) -> Tensor:
    """Return -log softmax(z)_y, (B,)."""
    return functional.cross_entropy(z, y, reduction="none")


def margin(z: Tensor, y: Tensor) -> Tensor:
    """Return max_{i != y} z_i - z_y, (B,): positive exactly where the label is wrong."""
    own = z.gather(1, y[:, None]).squeeze(1)
    others = z.scatter(1, y[:, None], float("-inf"))
    return others.amax(1) - own


def dlr(z: Tensor, y: Tensor) -> Tensor:
    """Return the difference-of-logits ratio -(z_y - max_{i != y} z_i) / (z_p1 - z_p3), (B,).

    Croce and Hein 2020, eq. 6 (arXiv:2003.01690). With two classes there is no third logit, and over the second the
    ratio would be constant: the margin is returned instead.
    """
    if z.shape[1] < 3:
        return margin(z, y)
    top = z.topk(3, dim=1).values
    return margin(z, y) / (top[:, 0] - top[:, -1] + 1e-12)


LOSSES: dict[str, Callable[[Tensor, Tensor], Tensor]] = {"ce": cross_entropy, "margin": margin, "dlr": dlr}


def objective(loss: str, targeted: bool) -> Callable[[Tensor, Tensor], Tensor]:
    """Return what an attack maximises: the loss on the true label, or minus the loss on the target label."""
    function = LOSSES[loss]
    return (lambda z, y: -function(z, y)) if targeted else function


def succeeded(z: Tensor, y: Tensor, targeted: bool, drawn: bool = False) -> Tensor:
    """Return which rows of z (B, L) an attack has won, bool (B,); a row that is not finite is never won.

    Where z is the log of the distribution of answers that are ``drawn``, all of them must be wrong (or the target).
    """
    if drawn:
        own = z.gather(1, y[:, None]).squeeze(1)
        hit = own > -ROUNDING if targeted else own < HALFWAY
    else:
        hit = (z.argmax(1) == y) if targeted else (z.argmax(1) != y)
    return hit & torch.isfinite(z).all(1)
