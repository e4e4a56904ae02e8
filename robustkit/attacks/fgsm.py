"""FGSM, the fast gradient sign method."""

from __future__ import annotations

from torch import Tensor

from robustkit.attacks import attack
from robustkit.attacks._ascent import Generator, Model, ascend
from robustkit.functional.losses import Loss
from robustkit.functional.norms import Norm
from robustkit.functional.trace import Trace


@attack("fgsm", norms=("linf", "l2"), source="Goodfellow et al. 2015, arXiv:1412.6572")
def fgsm(
    model: Model,
    x: Tensor,
    y: Tensor,
    *,
    eps: float,
    norm: Norm = "linf",
    loss: Loss = "ce",
    targeted: bool = False,
    stop_early: bool = True,
    generator: Generator = None,
    trace: Trace | None = None,
) -> Tensor:
    """Fast gradient sign method: one step of full length along the sign of the gradient.

    x' = clip(x + eps * sign(grad_x L(x, y))). Deviations: a sample that is already adversarial at x is returned as it
    is; ``norm="l2"`` steps along g / |g|_2.

    Parameters
    ----------
    model : callable
        x (B, C, H, W) in [0, 1] to logits or log-probabilities (B, L).
    x, y : Tensor
        Images, and true labels (B,) or, if ``targeted``, target labels.
    eps : float
        Budget in pixel units [0, 1].

    Returns
    -------
    Tensor
        Adversarial images, shape and dtype of x.
    """
    return ascend(
        model, x, y, eps=eps, steps=1, step_size=eps, norm=norm, loss=loss, targeted=targeted,
        stop_early=stop_early, generator=generator, trace=trace,
    )  # fmt: skip
