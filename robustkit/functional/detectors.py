"""Detection scores that can be differentiated: those of :mod:`robustkit.metrics.scores`, in torch.

``logits`` (M, B, L) are the members', ``fused`` (B, L) the ensemble's log-probabilities; higher = more normal. An
attacker only needs the order of a score, so two are here on a scale on which their gradient does not vanish where a
model is sure: ``msp`` is the logarithm of the maximum probability; all others have the values of their namesakes.
``agreement`` counts votes, which have no gradient, and is missing.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Literal

import torch
from torch import Tensor

from robustkit.functional.precision import full, wide
from robustkit.metrics.scores import NEEDS_MEMBERS

Detector = Literal["log-ed", "msp", "mal", "min-max-logit", "energy", "entropy", "mutual-information"]
Score = Callable[[Tensor, Tensor], Tensor]
JITTER = 1e-6  # of the log ED, as it is scored


def log_ed(logits: Tensor, fused: Tensor) -> Tensor:
    """Return log det(M^T M + 1e-6 I) on the predicted labels, (B,), in nats (ADP paper, eq. 3).

    In float64, where the device has it, and from logits: a member that is sure leaves less to the other classes than a
    float32 can square. The label is taken as given, since it has no gradient.
    """
    z = wide(logits)
    others = torch.arange(z.shape[2] - 1, device=z.device).expand(z.shape[1], -1)
    others = others + (others >= fused.argmax(1, keepdim=True))
    rest = z.gather(2, others.expand(len(z), -1, -1))
    rows = torch.softmax(rest, 2).transpose(0, 1)  # at least one is 1 / (L - 1), so that the norm is not zero
    rows = rows / torch.linalg.vector_norm(rows, dim=2, keepdim=True)
    gram = rows @ rows.transpose(1, 2) + JITTER * torch.eye(len(z), dtype=z.dtype, device=z.device)
    logarithm: Tensor = torch.linalg.slogdet(gram)[1]
    return logarithm.to(logits.dtype)


def msp(logits: Tensor, fused: Tensor) -> Tensor:
    """Return the logarithm of the maximum softmax probability, (B,)."""
    return fused.amax(1)


def mal(logits: Tensor, fused: Tensor) -> Tensor:
    """Return the maximum average logit, (B,)."""
    return logits.mean(0).amax(1)


def min_max_logit(logits: Tensor, fused: Tensor) -> Tensor:
    """Return the lowest over the members of a member's highest logit, (B,)."""
    return logits.amax(2).amin(0)


def energy(logits: Tensor, fused: Tensor) -> Tensor:
    """Return the negative free energy of the mean logits, (B,)."""
    return torch.logsumexp(logits.mean(0), 1)


def entropy(logits: Tensor, fused: Tensor) -> Tensor:
    """Return the negative entropy of the fused output, (B,), in nats."""
    return _negative_entropy(fused)


def negative_mutual_information(logits: Tensor, fused: Tensor) -> Tensor:
    """Return the negative mutual information between members and label, (B,), in nats."""
    log_p = torch.log_softmax(logits, 2)
    mean = torch.logsumexp(log_p, 0) - math.log(len(logits))
    return _negative_entropy(mean) - _negative_entropy(log_p).mean(0)


DETECTORS: Mapping[str, Score] = {
    "log-ed": log_ed,
    "msp": msp,
    "mal": mal,
    "min-max-logit": min_max_logit,
    "energy": energy,
    "entropy": entropy,
    "mutual-information": negative_mutual_information,
}


def normality(name: str, logits: Tensor, fused: Tensor) -> Tensor:
    """Return a score by name, (B,), in float32 or better.

    Of one member, those that compare members are zero and have no gradient: rounding would give them a wrong one.
    """
    if len(logits) == 1 and name in NEEDS_MEMBERS:
        return full(fused).new_zeros(len(fused))
    return DETECTORS[name](full(logits), full(fused))


def _negative_entropy(log_p: Tensor) -> Tensor:
    """Return sum p log p over the last axis; a class of probability zero adds nothing."""
    p = log_p.exp()
    return (p * torch.where(p > 0, log_p, 0.0)).sum(-1)
