"""PGD, projected gradient descent from a random start."""

from __future__ import annotations

from torch import Tensor

from robustkit.attacks import attack
from robustkit.attacks._ascent import Generator, Model, ascend
from robustkit.functional.losses import Loss
from robustkit.functional.norms import Norm
from robustkit.functional.trace import Trace


@attack("pgd", norms=("linf", "l2"), iterative=True, source="Madry et al. 2018, arXiv:1706.06083")
def pgd(
    model: Model,
    x: Tensor,
    y: Tensor,
    *,
    eps: float,
    steps: int = 10,
    step_size: float | None = None,
    restarts: int = 1,
    random_start: bool = True,
    norm: Norm = "linf",
    loss: Loss = "ce",
    targeted: bool = False,
    stop_early: bool = True,
    generator: Generator = None,
    trace: Trace | None = None,
) -> Tensor:
    """Projected gradient descent: sign steps from a random point of the ball, with restarts.

    x_{i+1} = Proj(x_i + step_size * sign(grad L(x_i, y))), x_0 uniform in the ball. Deviations: the best iterate over
    all restarts is returned, not the last; the run of a sample ends at its first success unless ``stop_early=False``.

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
    generator : SampleGenerator, torch.Generator, int or None
        Source of the random starts.

    Returns
    -------
    Tensor
        Adversarial images, shape and dtype of x.
    """
    return ascend(
        model, x, y, eps=eps, steps=steps, step_size=eps / 10 if step_size is None else step_size, norm=norm,
        loss=loss, targeted=targeted, restarts=restarts, randomly=random_start, stop_early=stop_early,
        generator=generator, trace=trace,
    )  # fmt: skip
