"""How much the members of an ensemble differ: on labels, on errors, on probabilities. Pure NumPy.

``predictions`` are labels (M, N), ``y`` the true ones (N,). A pairwise metric is the mean over all pairs of members of
what :mod:`robustkit.metrics.pairwise` gives for each; a pair for which it is not defined (0 / 0) does not count, and
the result is NaN where no pair does. The ratio of errors alone is that of the sums over all pairs.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from robustkit.metrics import pairwise
from robustkit.metrics.pairwise import mean_of_pairs

Ints = npt.NDArray[np.int64]
Floats = npt.NDArray[np.floating[Any]]


def oracle_disagreement(predictions: Ints, y: Ints) -> float:
    """Return the mean share of samples that exactly one of two members gets right, (N10 + N01) / N."""
    return mean_of_pairs(pairwise.oracle_disagreement(predictions, y))


def label_disagreement(predictions: Ints) -> float:
    """Return the mean share of samples on which two members answer differently.

    What the SDDE paper's Table 1 calls disagreement: it is :func:`oracle_disagreement` plus the different errors, as
    the paper's own numbers are.
    """
    return mean_of_pairs(pairwise.label_disagreement(predictions, predictions[0]))


def q_statistic(predictions: Ints, y: Ints) -> float:
    """Return Yule's Q, in [-1, 1]; low: different errors."""
    return mean_of_pairs(pairwise.q_statistic(predictions, y))


def correlation(predictions: Ints, y: Ints) -> float:
    """Return the correlation of being right, rho, in [-1, 1]."""
    return mean_of_pairs(pairwise.correlation(predictions, y))


def double_fault(predictions: Ints, y: Ints) -> float:
    """Return the mean share of samples that both of two members get wrong, N00 / N."""
    return mean_of_pairs(pairwise.double_fault(predictions, y))


def error_ratio(predictions: Ints, y: Ints) -> float:
    """Return different errors / same errors of all pairs, sum over sum (:func:`robustkit.metrics.pairwise.errors`).

    Infinite where no pair has a same error and one has different ones, NaN where no pair is wrong on the same sample.
    Aksela 2003; "D/S error rate" of the SDDE paper's Table 1.
    """
    return pairwise.of_all_pairs("error-ratio", predictions, y)


def label_mutual_information(predictions: Ints) -> float:
    """Return the mutual information between two members' labels, in nats; low: more diverse.

    What the SDDE paper's Table 1 calls MI: for ten balanced classes it is at most log 10 = 2.30, and the paper prints
    2.06; :func:`mutual_information` would be a few hundredths there.
    """
    return mean_of_pairs(pairwise.label_mutual_information(predictions, predictions[0]))


def vote_equitability(predictions: Ints, classes: int) -> Floats:
    """Return the Shannon equitability of the votes on each sample, (N,): -sum_k f_k ln f_k / ln min(M, L).

    f_k is the share of members that vote for class k. 0: all agree; 1: as divided as they can be. The
    design-diversity paper (Rosales et al. 2023, eq. 5) divides by the logarithm of the number of species; the largest
    that M votes on L classes can have is min(M, L).
    """
    members = len(predictions)
    if min(members, classes) < 2:
        raise ValueError(f"equitability needs two members and two classes, not {members} and {classes}")
    shares = np.stack([(predictions == own).mean(0) for own in predictions])  # f of the class that each votes for
    equitability: Floats = np.abs(np.log(shares).mean(0)) / np.log(min(members, classes))
    return equitability


def mutual_information(probabilities: Floats) -> Floats:
    """Return H(mean p) - mean H(p_m) of each sample, (N,), in nats, from probabilities (M, N, L).

    The same thing as the generalised Jensen-Shannon divergence with equal weights (ADP paper, eq. 9).
    """
    p = np.asarray(probabilities, np.float64)
    information: Floats = _entropy(p.mean(0)) - _entropy(p).mean(0)
    return information


def ensemble_diversity(member_logits: Floats, labels: Ints) -> Floats:
    """Return the ensemble diversity of each sample, (N,), in [0, 1], with respect to labels (N,) (ADP paper, eq. 3).

    det(M^T M), M the members' L2-normalised probabilities without the label's class: the squared volume that they span.
    It is 0 where there are more members than other classes, M > L - 1.
    """
    members, _, classes = member_logits.shape
    if members > classes - 1:
        return np.zeros(len(labels))
    volume: Floats = np.clip(np.linalg.det(others_gram(member_logits, labels)), 0.0, 1.0)
    return volume


def log_ensemble_diversity(member_logits: Floats, labels: Ints, jitter: float = 1e-6) -> Floats:
    """Return log det(M^T M + jitter I) of each sample, (N,), in nats: the log ED that ADP trains; finite always."""
    gram = others_gram(member_logits, labels) + jitter * np.eye(len(member_logits))
    logarithm: Floats = np.linalg.slogdet(gram)[1]
    return logarithm


def others_gram(member_logits: Floats, labels: Ints) -> Floats:
    """Return M^T M, (N, M, M), in float64.

    Made of logits: a confident member leaves 1e-10 and less to the other classes, but their direction is well known.
    """
    z = np.asarray(member_logits, np.float64).copy()
    z[:, np.arange(len(labels)), labels] = -np.inf
    rest = np.exp(z - z.max(2, keepdims=True))
    rest /= np.linalg.norm(rest, axis=2, keepdims=True)
    gram: Floats = np.einsum("mnl,knl->nmk", rest, rest)
    return gram


def _entropy(p: Floats) -> Floats:
    entropy: Floats = -np.where(p > 0, p * np.log(np.where(p > 0, p, 1.0)), 0.0).sum(-1)
    return entropy
