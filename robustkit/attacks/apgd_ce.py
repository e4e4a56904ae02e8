"""APGD-CE, auto-PGD on the cross-entropy."""

from __future__ import annotations

from typing import Literal

from torch import Tensor

from robustkit.attacks import attack
from robustkit.attacks._apgd import apgd
from robustkit.attacks._ascent import Generator, Model
from robustkit.functional.losses import objective
from robustkit.functional.trace import Trace


@attack(
    "apgd-ce",
    norms=("linf", "l2", "l1"),
    budget="fixed",
    iterative=True,
    source="Croce and Hein 2020, arXiv:2003.01690",
)
def apgd_ce(
    model: Model,
    x: Tensor,
    y: Tensor,
    *,
    eps: float,
    steps: int = 100,
    restarts: int = 1,
    rho: float = 0.75,
    norm: Literal["linf", "l2", "l1"] = "linf",
    targeted: bool = False,
    stop_early: bool = True,
    generator: Generator = None,
    trace: Trace | None = None,
) -> Tensor:
    """Auto-PGD on the cross-entropy: momentum, and a step size that halves itself at checkpoints.

    x_{k+1} = P(x_k + 3/4 (P(x_k + h s(grad L(x_k))) - x_k) + 1/4 (x_k - x_{k-1})), P the projection to ball and box,
    s the steepest direction of the norm. h starts at 2 eps; at checkpoints it is halved, and the run goes on from its
    best point, where the loss rose in fewer than rho of the steps or neither h nor the best loss changed.
    Croce and Hein 2020, algorithm 1. Deviations: x itself
    and the first and last iterate count as iterates too; the start is uniform in the ball, where the authors' code
    scales it to the surface; conditions 1 and 2 are those of the paper (their code exempts the first checkpoint from
    condition 2); the run of a sample ends at its first success unless ``stop_early=False``.
    In l1 the steps are sparse, sparser with the best point, and the ball narrows from 3 eps to eps: Croce and Hein
    2021, arXiv:2103.01208, with its random start; there is no momentum, and ``rho`` is not used.

    Parameters
    ----------
    model : callable
        x (B, C, H, W) in [0, 1] to logits or log-probabilities (B, L).
    x, y : Tensor
        Images, and true labels (B,) or, if ``targeted``, target labels.
    eps : float
        Budget in pixel units [0, 1]; the first step is 2 eps long.
    steps : int
        Iterations of one run.
    restarts : int
        Runs, each from its own random start; later ones see only the samples that still stand.
    rho : float
        Share of the steps between two checkpoints that must raise the loss; otherwise the step size is halved.
    generator : SampleGenerator, torch.Generator, int or None
        Source of the random starts.

    Returns
    -------
    Tensor
        Adversarial images, shape and dtype of x.

    Raises
    ------
    FloatingPointError
        If a gradient is not finite.
    """
    loss = objective("ce", targeted)
    return apgd(
        model, x, y, eps=eps, norm=norm, steps=steps, restarts=restarts, rho=rho,
        gain=lambda z, y, _: loss(z, y), targets=0, targeted=targeted, stop_early=stop_early,
        generator=generator, trace=trace,
    )  # fmt: skip
