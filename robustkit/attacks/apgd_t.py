"""APGD-T, auto-PGD against each of the most likely other classes."""

from __future__ import annotations

from typing import Literal

from torch import Tensor

from robustkit.attacks import attack
from robustkit.attacks._apgd import apgd
from robustkit.attacks._ascent import Generator, Model
from robustkit.functional.losses import margin
from robustkit.functional.trace import Trace


def ratio(z: Tensor, y: Tensor, aim: Tensor) -> Tensor:
    """Return the targeted ratio (z_t - z_y) / (z_p1 - (z_p3 + z_p4) / 2), (B,), eq. 7.

    With three classes z_p3 stands for z_p4 too; with two the numerator alone is used, as its ratio is constant.
    """
    return _scaled(z, (z.gather(1, aim[:, None]) - z.gather(1, y[:, None])).squeeze(1))


def _scaled(z: Tensor, gap: Tensor) -> Tensor:
    if z.shape[1] == 2:
        return gap
    top = z.topk(min(4, z.shape[1]), dim=1).values
    return gap / (top[:, 0] - 0.5 * (top[:, 2] + top[:, -1]) + 1e-12)


@attack(
    "apgd-t", norms=("linf", "l2", "l1"), budget="fixed", iterative=True, family="targeted",
    source="Croce and Hein 2020, arXiv:2003.01690",
)  # fmt: skip
def apgd_t(
    model: Model,
    x: Tensor,
    y: Tensor,
    *,
    eps: float,
    steps: int = 100,
    targets: int = 9,
    restarts: int = 1,
    rho: float = 0.75,
    norm: Literal["linf", "l2", "l1"] = "linf",
    targeted: bool = False,
    stop_early: bool = True,
    generator: Generator = None,
    trace: Trace | None = None,
) -> Tensor:
    """Auto-PGD on the targeted difference-of-logits ratio, one run for each of the most likely other classes.

    L(x) = (z_t - z_y) / (z_p1 - (z_p3 + z_p4) / 2), p the classes by falling logit (eq. 7), ascended like ``apgd-ce``;
    any wrong class is a success. The target classes t are the most likely ones at x. In the targeted mode there is one
    run, and the gap is that of the target to the best other class. Deviations: x itself and the first and last iterate
    count as iterates too; the start is uniform in the ball, where the authors' code scales it to the surface;
    conditions 1 and 2 are those of the paper (their code exempts the first checkpoint from condition 2); the run of a
    sample ends at its first success unless ``stop_early=False``.
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
    targets : int
        How many other classes are aimed at, the most likely first; at most L - 1.
    restarts : int
        Runs against each class, each from its own random start; later ones see only the samples that still stand.
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
    gain = (lambda z, y, _: _scaled(z, -margin(z, y))) if targeted else ratio
    return apgd(
        model, x, y, eps=eps, norm=norm, steps=steps, restarts=restarts, rho=rho, gain=gain,
        targets=0 if targeted else targets, targeted=targeted, stop_early=stop_early, generator=generator, trace=trace,
    )  # fmt: skip
