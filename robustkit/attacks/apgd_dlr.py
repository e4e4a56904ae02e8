"""APGD-DLR, auto-PGD on the difference-of-logits ratio."""

from __future__ import annotations

from typing import Literal

from torch import Tensor

from robustkit.attacks import attack
from robustkit.attacks._apgd import apgd
from robustkit.attacks._ascent import Generator, Model
from robustkit.functional.losses import objective
from robustkit.functional.trace import Trace


@attack(
    "apgd-dlr",
    norms=("linf", "l2", "l1"),
    budget="fixed",
    iterative=True,
    source="Croce and Hein 2020, arXiv:2003.01690",
)
def apgd_dlr(
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
    """Auto-PGD on the difference-of-logits ratio, which no scaling of the logits can mask.

    L(x) = -(z_y - max_{i != y} z_i) / (z_p1 - z_p3), p the classes by falling logit (eq. 6), ascended like
    ``apgd-ce``. With two classes the ratio is -1 or 1 and has no gradient: the margin z_i - z_y is used instead.
    Deviations: x itself and the first and last iterate count as iterates too; the start is uniform in the ball, where
    the authors' code scales it to the surface; conditions 1 and 2 are those of the paper (their code exempts the first
    checkpoint from condition 2); the run of a sample ends at its first success unless ``stop_early=False``.
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
    scaled, plain = objective("dlr", targeted), objective("margin", targeted)
    return apgd(
        model, x, y, eps=eps, norm=norm, steps=steps, restarts=restarts, rho=rho,
        gain=lambda z, y, _: (plain if z.shape[1] == 2 else scaled)(z, y), targets=0, targeted=targeted,
        stop_early=stop_early, generator=generator, trace=trace,
    )  # fmt: skip
