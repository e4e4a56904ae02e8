"""MORA, an ascent that reweighs the members of an ensemble by how much each still holds the fused answer."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional

from robustkit.attacks import attack
from robustkit.attacks._ascent import PULL, Generator, Model, Readout, ascend, gliding
from robustkit.attacks._members import by_gap, fusion, gap, mean_of, outputs
from robustkit.functional.norms import Norm
from robustkit.functional.trace import Trace

MIXTURES = (0.5, 0.0, 0.25, 0.75, 1.0)  # share of the reweighed members, run by run
WIDE = 10.0  # a gap of logits beyond which they are made smaller
SOFT, VOTES = 0.2, 0.8  # temperature of the members' softmax: mean probabilities, votes
VOTING, PLAIN = ("majority", "median"), ("mean-logit", "geometric-mean")


@attack(
    "mora", norms=("linf", "l2"), iterative=True, settles=True, family="reweighing",
    source="Yu et al. 2022, arXiv:2211.08008",
)  # fmt: skip
def mora(
    model: Model,
    x: Tensor,
    y: Tensor,
    *,
    eps: float,
    steps: int = 100,
    restarts: int = 5,
    norm: Norm = "linf",
    targeted: bool = False,
    stop_early: bool = True,
    generator: Generator = None,
    trace: Trace | None = None,
) -> Tensor:
    """Model-reweighing attack: sign steps with momentum on the fused output mixed with members reweighed per sample.

    Each run ascends the cross-entropy of (1 - s) f / gap(f) + s sum_m w_m k_m z_m / sum_m w_m k_m: f the fused output,
    z_m the members' logits, divided by a tenth of their largest gap where that is above 10; w_m = p_mj (p_my / P_y + (1
    - p_mj) / P_j), the derivative of log P_j - log P_y by z_mj, p_m the softmax of tau z_m, P their mean and j the
    strongest other class of f; k_m whether member m is still right (always 1 for mean logits). s is .5, 0, .25, .75, 1
    in the five runs, tau .2, or .8 where members vote. Steps fall from 2 eps to nothing by a cosine, momentum .75; what
    a run broke the next does not see, unless ``stop_early=False``. Yu, Gao and Xu 2022, as the authors' code runs it.
    Deviations: the best iterate counts; their targeted stage over nine classes is not there (run apgd-t); in the
    targeted mode j is the target and k_m whether member m does not answer it yet.

    A model without members, or with one, has nothing to reweigh: what is left is the cross-entropy of f / gap(f) mixed
    with that of its own logits.

    Parameters
    ----------
    model : callable
        x (B, C, H, W) in [0, 1] to logits or log-probabilities (B, L), with members as for ``quorum``.
    x, y : Tensor
        Images, and true labels (B,) or, if ``targeted``, target labels.
    eps : float
        Budget in pixel units [0, 1]; the first step is 2 eps long.
    steps : int
        Steps of each run.
    restarts : int
        Runs; the five mixtures take turns.
    generator : SampleGenerator, torch.Generator, int or None
        Source of the random starts.

    Returns
    -------
    Tensor
        Adversarial images, shape and dtype of x; where all runs fail, that of highest cross-entropy.

    Raises
    ------
    FloatingPointError
        If a gradient is not finite.
    """
    rule = fusion(model)
    runs = [_reweighed(MIXTURES[run % len(MIXTURES)], rule, targeted) for run in range(restarts)]
    return ascend(
        model, x, y, eps=eps, steps=steps, step_size=gliding(eps, steps), norm=norm, loss="ce", targeted=targeted,
        randomly=True, pull=PULL, stop_early=stop_early, readouts=runs, generator=generator, trace=trace,
    )  # fmt: skip


def _reweighed(share: float, rule: str, targeted: bool) -> Readout:
    def read(model: Model, x: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
        logits, fused = outputs(model, x)
        scaled = _narrowed(logits)
        holding = (scaled.argmax(2) == y) ^ targeted if rule not in PLAIN else torch.ones_like(scaled[..., 0])
        weights = reweigh(scaled, fused, y, VOTES if rule in VOTING else SOFT, targeted) * holding
        mixed = (1 - share) * by_gap(fused) + share * mean_of(weights, scaled)
        return fused, mixed[None]

    return read


def _narrowed(logits: Tensor) -> Tensor:
    """Return member logits (M, B, L), divided by a tenth of the largest member's gap where that is above 10."""
    return logits / (gap(logits).amax(0) / WIDE).clamp_min(1.0)


@torch.no_grad()
def reweigh(logits: Tensor, fused: Tensor, y: Tensor, tau: float, targeted: bool = False) -> Tensor:
    """Return w_m = p_mj (p_my / P_y + (1 - p_mj) / P_j) of member logits (M, B, L), (M, B).

    That is d(log P_j - log P_y) / dz_mj, times M / tau. The ratios are softmaxes over the members, since where all
    members rule a class out, its probabilities are 0, and so is their mean.
    """
    log_p = functional.log_softmax(tau * logits, -1)
    other = fused.scatter(1, y[:, None], float("-inf")).argmax(1)
    y, other = (fused.argmax(1), y) if targeted else (y, other)
    rows = torch.arange(len(y), device=y.device)
    own, strongest = log_p[:, rows, y], log_p[:, rows, other]
    p = strongest.exp()
    return len(p) * (p * own.softmax(0) + (1 - p) * strongest.softmax(0))
