"""Fusion rules: member logits (M, B, L) to fused log-probabilities (B, L), exact and never saturated."""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import Tensor
from torch.nn import functional


def mean_prob(z: Tensor) -> Tensor:
    """Return log mean_m softmax(z_m), as logsumexp_m(log_softmax(z_m)) - log M."""
    return torch.logsumexp(functional.log_softmax(z, -1), 0) - math.log(z.shape[0])


def mean_logit(z: Tensor) -> Tensor:
    """Return log_softmax(mean_m z_m)."""
    return functional.log_softmax(z.mean(0), -1)


def geometric_mean(z: Tensor) -> Tensor:
    """Return the normalised log geometric mean of the probabilities.

    Equal to ``mean-logit`` in exact arithmetic: log-softmax differs from the logits by a constant per row.
    """
    return functional.log_softmax(functional.log_softmax(z, -1).mean(0), -1)


def median(z: Tensor) -> Tensor:
    """Return the log of the elementwise median probability, renormalised; two middle members are averaged."""
    ordered = functional.log_softmax(z, -1).sort(0).values
    middle = ordered[(len(z) - 1) // 2 : len(z) // 2 + 1]
    return functional.log_softmax(torch.logsumexp(middle, 0) - math.log(len(middle)), -1)


def majority(z: Tensor) -> Tensor:
    """Return log((votes + mean probability) / (M + 1)): most votes win, the summed probability breaks ties.

    Votes have no gradient; the gradient is that of ``mean-prob`` (straight-through), so that a gradient attack has
    something to follow.
    """
    smooth = mean_prob(z)
    votes = functional.one_hot(z.argmax(-1), z.shape[-1]).sum(0).to(z.dtype)
    value = torch.log((votes + smooth.exp()).clamp_min(torch.finfo(z.dtype).tiny)) - math.log(len(z) + 1)
    # Where no member votes and the probability underflows, keep the order of the exact log-probability.
    value = torch.where(votes > 0, value, smooth - math.log(len(z) + 1))
    return smooth + (value - smooth).detach()


def crossmax(z: Tensor) -> Tensor:
    """Return log_softmax(median_m (c_m - max_m c_m)), c_m = z_m - max_l z_ml; two middle members are averaged.

    CrossMax: no member is surer than another, no class is one member's alone; Fort and Lakshminarayanan 2024,
    arXiv:2408.05446, algorithm 1. Deviation: of one member, whose second difference would be 0, the first is returned.
    Made for ten members or more: of two or three, classes on which they agree are nearly tied, likely or not.
    """
    crossed = z - z.amax(-1, keepdim=True)
    if len(z) > 1:
        crossed = crossed - crossed.amax(0)
    ordered = crossed.sort(0).values
    return functional.log_softmax(ordered[(len(z) - 1) // 2 : len(z) // 2 + 1].mean(0), -1)


FUSIONS: dict[str, Callable[[Tensor], Tensor]] = {
    "mean-prob": mean_prob,
    "mean-logit": mean_logit,
    "median": median,
    "geometric-mean": geometric_mean,
    "majority": majority,
    "crossmax": crossmax,
}
