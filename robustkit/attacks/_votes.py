"""What is ascended of members that vote: how likely it is that enough of them agree, if each answered by chance."""

from __future__ import annotations

import math

import torch
from torch import Tensor
from torch.nn import functional

from robustkit.attacks._ascent import Model, Readout
from robustkit.attacks._members import gap, outputs

NOBODY = -1e9  # log of a chance of nothing; finite, so that gradients are
SHARP, SOFT = 0.5, 1.0  # gaps by which a member's odds change e-fold: of the mean gap, of its own


def ballots(rule: str, targeted: bool) -> list[Readout]:
    """Return what is ascended in turn of members that vote by a rule."""
    first = _dissenting() if rule == "crossmax" and not targeted else _agreeing(SHARP, own=False, against=True)
    return [first, _agreeing(SOFT, own=True, against=targeted), _agreeing(SHARP, own=False, against=targeted)]


def agreement(logits: Tensor, softness: float, own: bool) -> Tensor:
    """Return how likely it is that a majority of members that answer by chance agrees on each class, in logs, (B, L).

    Of member logits z_m (M, B, L) it is log e_k(p_1l, ..., p_Ml): p_m the softmax of z_m / (softness gap_m), gap_m
    each member's ``own`` or, so that surer members stay harder to win, the mean of all; k = M // 2 + 1; e_k the sum,
    over all groups of k members, of the product of their p_ml. Its gradient goes to the group that is nearest to
    agreeing, and in it to the member that is yet to be won. Votes have none, a median that of one member.
    """
    return _groups(_answers(logits, softness, own), len(logits) // 2 + 1)


def dissent(logits: Tensor, y: Tensor, softness: float) -> Tensor:
    """Return how likely it is that a majority errs and another member does not, in logs, (B,).

    What ``crossmax`` falls to: it takes from a class the best that any member gives it, so that the label loses most
    where members that err stand beside one that is sure of it, and then to any class on which they nearly agree.
    """
    answers = _answers(logits, softness, own=False)
    label = y.expand(len(logits), -1)[..., None]
    right = answers.gather(2, label)[..., 0]
    wrong = torch.logsumexp(answers.scatter(2, label, NOBODY), 2)
    size = min(len(logits) // 2 + 1, len(logits) - 1)
    beside = [torch.cat([wrong[:witness], wrong[witness + 1 :]]) for witness in range(len(logits))]
    return torch.logsumexp(right + torch.stack([_groups(others, size) for others in beside]), 0)


def _answers(logits: Tensor, softness: float, own: bool) -> Tensor:
    """Return the log-probabilities of what members answer by chance, (M, B, L)."""
    gaps = gap(logits)
    return functional.log_softmax(logits / (softness * (gaps if own else gaps.mean(0))), -1)


def _groups(logs: Tensor, size: int) -> Tensor:
    """Return the log of the elementary symmetric polynomial of order ``size`` of the exponentials of logs (M, ...)."""
    found = [torch.zeros_like(logs[0])]
    for count, log in enumerate(logs):  # log e_0 ... log e_size of those so far
        longer = [torch.logaddexp(a + log, b) for a, b in zip(found, found[1:], strict=False)]
        found = [found[0], *longer, *([found[-1] + log] if count < size else [])]
    return found[-1]


def _agreeing(softness: float, own: bool, against: bool) -> Readout:
    """Return a readout of the agreement on the classes; ``against``: that on the label is pushed down as well."""

    def read(model: Model, x: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
        logits, fused = outputs(model, x)
        agreed = agreement(logits, softness, own)
        if not against:  # cross-entropy is then log(1 + sum of the others), as steep in the same directions
            agreed = agreed.scatter(1, y[:, None], 0.0)
        return fused, agreed[None]

    return read


def _dissenting() -> Readout:
    """Return a readout whose cross-entropy is log(1 + e^d), d the dissent: as steep in the same directions."""

    def read(model: Model, x: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
        logits, fused = outputs(model, x)
        shared = dissent(logits, y, SHARP) - math.log(max(1, fused.shape[1] - 1))
        return fused, shared[:, None].expand_as(fused).scatter(1, y[:, None], 0.0)[None]

    return read
