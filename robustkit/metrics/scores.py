"""How normal an image looks to an ensemble: scores of stored logits, higher = more normal. Pure NumPy, float64.

``member_logits`` (M, N, L) are the members' logits, ``fused`` (N, L) the ensemble's log-probabilities. A score of one
member is the same function of ``member_logits[m : m + 1]`` and its log-probabilities; :data:`NEEDS_MEMBERS` names those
that are constant there.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy.special import logsumexp, softmax

from robustkit.metrics.diversity import log_ensemble_diversity, mutual_information

Floats = npt.NDArray[np.floating[Any]]
Ints = npt.NDArray[np.int64]
Score = Callable[[Floats, Floats], Floats]


def log_ed(member_logits: Floats, fused: Floats) -> Floats:
    """Log ensemble diversity on the predicted labels, (N,), in nats (Pang et al. 2019, eq. 3): deployable."""
    return log_ensemble_diversity(member_logits, fused.argmax(1))


def msp(member_logits: Floats, fused: Floats) -> Floats:
    """Maximum softmax probability of the fused output, (N,), in [0, 1] (Hendrycks and Gimpel 2017)."""
    result: Floats = np.exp(_wide(fused).max(1))
    return result


def mal(member_logits: Floats, fused: Floats) -> Floats:
    """Maximum average logit, (N,): max_l mean_m z_ml (Dereka et al. 2024)."""
    result: Floats = _wide(member_logits).mean(0).max(1)
    return result


def min_max_logit(member_logits: Floats, fused: Floats) -> Floats:
    """Lowest over the members of a member's highest logit, (N,)."""
    result: Floats = _wide(member_logits).max(2).min(0)
    return result


def energy(member_logits: Floats, fused: Floats) -> Floats:
    """Negative free energy of the mean logits, (N,): log sum_l exp(mean_m z_ml) (Liu et al. 2020)."""
    result: Floats = logsumexp(_wide(member_logits).mean(0), 1)
    return result


def entropy(member_logits: Floats, fused: Floats) -> Floats:
    """Negative entropy of the fused output, (N,), in nats."""
    log_p = _wide(fused)
    p = np.exp(log_p)
    result: Floats = np.where(p > 0, p * np.where(p > 0, log_p, 0.0), 0.0).sum(1)
    return result


def negative_mutual_information(member_logits: Floats, fused: Floats) -> Floats:
    """Negative mutual information between members and label, (N,), in nats: mean H(p_m) - H(mean p)."""
    return -mutual_information(softmax(_wide(member_logits), 2))


def agreement(member_logits: Floats, fused: Floats) -> Floats:
    """Share of members that vote for the fused prediction, (N,), in [0, 1]."""
    result: Floats = (member_logits.argmax(2) == fused.argmax(1)).mean(0)
    return result


SCORES: Mapping[str, Score] = {
    "log-ed": log_ed,
    "msp": msp,
    "mal": mal,
    "min-max-logit": min_max_logit,
    "energy": energy,
    "entropy": entropy,
    "mutual-information": negative_mutual_information,
    "agreement": agreement,
}
NEEDS_MEMBERS = ("log-ed", "mutual-information", "agreement")


def scores(members: int) -> dict[str, Score]:
    """Return the scores that say something of an ensemble of so many members."""
    return {name: score for name, score in SCORES.items() if members > 1 or name not in NEEDS_MEMBERS}


def _wide(values: Floats) -> Floats:
    return np.asarray(values, np.float64)
