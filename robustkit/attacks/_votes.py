"""What is ascended of members that vote: how likely it is that enough of them agree, if each answered by chance."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional

from robustkit.attacks._ascent import Model, Readout
from robustkit.attacks._members import gap, outputs

SHARP, SOFT = 0.5, 1.0  # gaps by which a member's odds change e-fold: of the mean gap, of its own


def ballots(targeted: bool) -> list[Readout]:
    """Return what is ascended in turn of members that vote."""
    return [
        _agreeing(SHARP, own=False, against=True),
        _agreeing(SOFT, own=True, against=targeted),
        _agreeing(SHARP, own=False, against=targeted),
    ]


def agreement(logits: Tensor, softness: float, own: bool) -> Tensor:
    """Return how likely it is that a majority of members that answer by chance agrees on each class, in logs, (B, L).

    Of member logits z_m (M, B, L) it is log e_k(p_1l, ..., p_Ml): p_m the softmax of z_m / (softness gap_m), gap_m
    each member's ``own`` or, so that surer members stay harder to win, the mean of all; k = M // 2 + 1; e_k the sum,
    over all groups of k members, of the product of their p_ml. Its gradient goes to the group that is nearest to
    agreeing, and in it to the member that is yet to be won. Votes have none, a median that of one member.
    """
    gaps = gap(logits)
    answers = functional.log_softmax(logits / (softness * (gaps if own else gaps.mean(0))), -1)
    found = [torch.zeros_like(answers[0])]
    for member, log in enumerate(answers):  # log e_0 ... log e_k of the members so far
        longer = [torch.logaddexp(a + log, b) for a, b in zip(found, found[1:], strict=False)]
        grown = [found[-1] + log] if member <= len(logits) // 2 else []
        found = [found[0], *longer, *grown]
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
