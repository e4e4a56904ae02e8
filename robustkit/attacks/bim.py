"""BIM, the basic iterative method."""

from __future__ import annotations

from torch import Tensor

from robustkit.attacks import attack
from robustkit.attacks._ascent import Generator, Model, ascend
from robustkit.functional.losses import Loss
from robustkit.functional.norms import Norm
from robustkit.functional.trace import Trace


@attack("bim", norms=("linf", "l2"), iterative=True, source="Kurakin et al. 2017, arXiv:1607.02533")
def bim(
    model: Model,
    x: Tensor,
    y: Tensor,
    *,
    eps: float,
    steps: int = 10,
    step_size: float | None = None,
    norm: Norm = "linf",
    loss: Loss = "ce",
    targeted: bool = False,
    stop_early: bool = True,
    generator: Generator = None,
    trace: Trace | None = None,
) -> Tensor:
    """Basic iterative method: small sign steps from x, clipped to the ball.

    x_{i+1} = clip_{x,eps}(x_i + step_size * sign(grad L(x_i, y))), x_0 = x. Deviations: the best iterate is returned,
    not the last; the run of a sample ends at its first success unless ``stop_early=False``.

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

    Returns
    -------
    Tensor
        Adversarial images, shape and dtype of x.
    """
    return ascend(
        model, x, y, eps=eps, steps=steps, step_size=eps / 10 if step_size is None else step_size, norm=norm,
        loss=loss, targeted=targeted, stop_early=stop_early, generator=generator, trace=trace,
    )  # fmt: skip
