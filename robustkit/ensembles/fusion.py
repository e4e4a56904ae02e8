"""Fusion rules: member logits (M, B, L) to fused log-probabilities (B, L), exact and never saturated.

A rule whose answer is drawn is :class:`Draw`, all others are functions.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional

from robustkit.base import chances as names
from robustkit.base.errors import unknown
from robustkit.functional.precision import wide

ROUNDING = 1e-5  # of the largest logit: what float32 does not tell apart from one batch to another


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
    arXiv:2408.05446, algorithm 1. Deviations: of one member, whose second difference would be 0, the first is returned;
    classes that rounding alone tells from the best are in the order of their mean logit. Made for ten members or more:
    of three that all answer l, any class on which the nearest two are equally far behind is tied with l, likely or not,
    and the batch that an image is in would decide.
    """
    crossed = z - z.amax(-1, keepdim=True)
    if len(z) > 1:
        crossed = crossed - crossed.amax(0)
    ordered = crossed.sort(0).values
    return functional.log_softmax(_untied(ordered[(len(z) - 1) // 2 : len(z) // 2 + 1].mean(0), z), -1)


def _untied(value: Tensor, z: Tensor) -> Tensor:
    """Return values (B, L): of several that are the best within rounding, that of the largest mean logit leads."""
    near = ROUNDING * z.detach().abs().amax(0).amax(-1, keepdim=True)
    best = value >= value.amax(-1, keepdim=True) - near
    first = z.mean(0).masked_fill(~best, -torch.inf).argmax(-1, keepdim=True)
    leads = torch.zeros_like(value).scatter(-1, first, 2.0) * near
    return torch.where(best.sum(-1, keepdim=True) > 1, value + leads, value)


@dataclass(frozen=True)
class Draw:
    """Each answer is that of one member, drawn anew: log of the exact distribution of the answers, nothing sampled.

    Of member logits (M, B, L) it is log sum_m p_m [argmax z_m = l], so that exp of the label's entry is how likely a
    sample is classified right; -80 and less where no member answers l. The gradient is that of :meth:`smooth`.

    Attributes
    ----------
    chances : tuple of float
        p_m, which sum to one; empty: every member alike.
    """

    chances: tuple[float, ...] = ()

    @property
    def __name__(self) -> str:
        return (
            f"{names.RANDOM}:{','.join(f'{chance:.12g}' for chance in self.chances)}" if self.chances else names.RANDOM
        )

    def of(self, members: int) -> tuple[float, ...]:
        """Return the probability of each of so many members; a UserError if there are another number of them."""
        names.check_members(self.__name__, members)
        return self.chances or (1 / members,) * members

    def __call__(self, z: Tensor) -> Tensor:
        """Return the log of the distribution of answers, (B, L)."""
        smooth = self.smooth(z)
        votes = wide(functional.one_hot(z.argmax(-1), z.shape[-1]))
        chances = torch.tensor(self.of(len(z)), dtype=votes.dtype, device=z.device)
        share = torch.einsum("m,mbl->bl", chances, votes)
        nobody = names.NEVER + smooth.detach().clamp_min(
            names.NEVER
        )  # in order, for attacks that look at the next best
        value = torch.where(share > 0, share.clamp_min(names.ROUNDING**2).log(), wide(nobody)).to(z.dtype)
        return value + (smooth - smooth.detach())

    def smooth(self, z: Tensor) -> Tensor:
        """Return log sum_m p_m softmax(z_m), (B, L), what attacks are shown: its losses never lose their gradient.

        Where all members answer alike the exact distribution is certain, and the cross-entropy of a certain answer has
        none.
        """
        known = [(m, math.log(chance)) for m, chance in enumerate(self.of(len(z))) if chance > 0]
        logs = functional.log_softmax(z[[m for m, _ in known]], -1)
        return torch.logsumexp(logs + logs.new_tensor([log for _, log in known])[:, None, None], 0)


FUSIONS: dict[str, Callable[[Tensor], Tensor]] = {
    "mean-prob": mean_prob,
    "mean-logit": mean_logit,
    "median": median,
    "geometric-mean": geometric_mean,
    "majority": majority,
    "crossmax": crossmax,
    names.RANDOM: Draw(),
}


def rule_of(name: str) -> Callable[[Tensor], Tensor]:
    """Return the rule of a name, with probabilities or without; a :class:`UserError` says what is wrong with it."""
    if names.is_random(name):
        return Draw(names.read(name))
    if name not in FUSIONS:
        raise unknown("fusion rule", name, FUSIONS)
    return FUSIONS[name]
