"""MIM, the momentum iterative method."""

from __future__ import annotations

from torch import Tensor

from robustkit.attacks import attack
from robustkit.attacks._ascent import Generator, Model, ascend
from robustkit.functional.losses import Loss
from robustkit.functional.norms import Norm
from robustkit.functional.trace import Trace


@attack("mim", norms=("linf", "l2"), iterative=True, source="Dong et al. 2018, arXiv:1710.06081")
def mim(
    model: Model,
    x: Tensor,
    y: Tensor,
    *,
    eps: float,
    steps: int = 10,
    step_size: float | None = None,
    decay: float = 1.0,
    norm: Norm = "linf",
    loss: Loss = "ce",
    targeted: bool = False,
    stop_early: bool = True,
    generator: Generator = None,
    trace: Trace | None = None,
) -> Tensor:
    """Momentum iterative method: steps along an accumulated, L1-normalised gradient.

    g_{i+1} = decay * g_i + grad L(x_i, y) / |grad L(x_i, y)|_1 (eq. 6), x_{i+1} = Proj(x_i + step_size * sign(g_{i+1}))
    (eq. 7), x_0 = x. Deviations: the best iterate is returned, not the last; the run of a sample ends at its first
    success unless ``stop_early=False``.

    Parameters
    ----------
    model : callable
        x (B, C, H, W) in [0, 1] to logits or log-probabilities (B, L).
    x, y : Tensor
        Images, and true labels (B,) or, if ``targeted``, target labels.
    eps : float
        Budget in pixel units [0, 1].
    step_size : float or None
        In pixel units; None: eps / 10, whatever the number of steps (ADP paper, section 4.3).
    decay : float
        Decay factor of the momentum.

    Returns
    -------
    Tensor
        Adversarial images, shape and dtype of x.
    """
    return ascend(
        model, x, y, eps=eps, steps=steps, step_size=eps / 10 if step_size is None else step_size, norm=norm,
        loss=loss, targeted=targeted, decay=decay, stop_early=stop_early, generator=generator, trace=trace,
    )  # fmt: skip
