"""Fusion swap, PGD on other fusions of the same members, judged by the real one."""

from __future__ import annotations

from collections.abc import Callable
from operator import itemgetter
from typing import Any

from torch import Tensor

from robustkit.attacks import attack
from robustkit.attacks._ascent import Generator, Model, Readout, ascend
from robustkit.attacks._members import count
from robustkit.ensembles.fusion import mean_logit, mean_prob
from robustkit.functional.losses import Loss
from robustkit.functional.norms import Norm
from robustkit.functional.trace import Trace


@attack(
    "fusion-swap", norms=("linf", "l2"), iterative=True, family="members", source="robustkit; PGD: Madry et al. 2018"
)
def fusion_swap(
    model: Model,
    x: Tensor,
    y: Tensor,
    *,
    eps: float,
    steps: int = 20,
    step_size: float | None = None,
    random_start: bool = True,
    norm: Norm = "linf",
    loss: Loss = "ce",
    targeted: bool = False,
    stop_early: bool = True,
    generator: Generator = None,
    trace: Trace | None = None,
) -> Tensor:
    """Fusion swap: PGD on mean logits, mean probabilities, summed losses and each member, judged by the real fusion.

    A fusion rule can hide the gradients of its members (a maximum, a median, votes, rounding) that another rule shows.
    x_{i+1} = Proj(x_i + step_size * sign(grad S(x_i, y))), where S is, in turn, the loss of the mean-logit fusion of
    the members, that of their mean-prob fusion, the sum of the members' own losses, and the loss of each member alone.
    One forward pass gives both S and the real fused output, which alone decides what has succeeded. What one run broke
    is not attacked by the next, unless ``stop_early=False``.

    The real fusion itself is not ascended: run pgd beside this attack. A model without members (another callable, one
    member of an ensemble) is attacked as it is, in a single run, as by pgd; so is the member of an ensemble of one.

    Parameters
    ----------
    model : callable
        x (B, C, H, W) in [0, 1] to logits or log-probabilities (B, L). One with members has ``member_logits(x)``
        (M, B, L), ``fuse(member_logits)`` (B, L) and a length M, as :class:`robustkit.ensembles.ensemble.Ensemble` has.
    x, y : Tensor
        Images, and true labels (B,) or, if ``targeted``, target labels.
    eps : float
        Budget in pixel units [0, 1].
    steps : int
        Steps of each of the 3 + M runs.
    step_size : float or None
        In pixel units; None: eps / 10.
    random_start : bool
        Whether each run starts at a random point of the ball, not at x.
    generator : SampleGenerator, torch.Generator, int or None
        Source of the random starts.

    Returns
    -------
    Tensor
        Adversarial images, shape and dtype of x; where all runs fail, that of highest loss of the real fusion.

    Raises
    ------
    FloatingPointError
        If a gradient is not finite.
    """
    return ascend(
        model, x, y, eps=eps, steps=steps, step_size=eps / 10 if step_size is None else step_size, norm=norm,
        loss=loss, targeted=targeted, randomly=random_start, stop_early=stop_early,
        readouts=surrogates(count(model)), generator=generator, trace=trace,
    )  # fmt: skip


def surrogates(members: int) -> list[Readout | None]:
    """Return what is ascended in turn in place of the real fusion of so many members; 0: the model as it is."""
    if members == 0:
        return [None]
    alone = [_readout(itemgetter(slice(m, m + 1))) for m in range(members)]
    if members == 1:
        return [*alone]
    return [
        _readout(lambda z: mean_logit(z)[None]),
        _readout(lambda z: mean_prob(z)[None]),
        _readout(lambda z: z),  # the losses of all outputs add up
        *alone,
    ]


def _readout(surrogate: Callable[[Tensor], Tensor]) -> Readout:
    """Return a readout that judges by the real fusion and ascends ``surrogate(member logits)``, (K, B, L)."""

    def read(model: Any, x: Tensor, _: Tensor) -> tuple[Tensor, Tensor]:
        logits = model.member_logits(x)
        return model.fuse(logits), surrogate(logits)

    return read
