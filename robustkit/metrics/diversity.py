"""How much the members of an ensemble differ: on labels, on errors, on probabilities, on features. Pure NumPy.

``predictions`` are labels (M, N), ``y`` the true ones (N,). A pairwise metric is the mean over all pairs of members; a
pair for which it is not defined (0 / 0) does not count, and the result is NaN where no pair does. For a pair, N11 is
how many samples both get right, N00 both wrong, N10 and N01 one of them. Sources: Kuncheva and Whitaker 2003; Aksela
2003.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import numpy.typing as npt

Ints = npt.NDArray[np.int64]
Bools = npt.NDArray[np.bool_]
Floats = npt.NDArray[np.floating[Any]]


def oracle_disagreement(predictions: Ints, y: Ints) -> float:
    """Return the mean share of samples that exactly one of two members gets right, (N10 + N01) / N."""
    return _mean(float((a != b).mean()) for a, b in _pairs(predictions == y))


def label_disagreement(predictions: Ints) -> float:
    """Return the mean share of samples on which two members answer differently.

    What the SDDE paper's Table 1 calls disagreement: it is :func:`oracle_disagreement` plus the different errors, as
    the paper's own numbers are.
    """
    return _mean(float((a != b).mean()) for a, b in _pairs(predictions))


def q_statistic(predictions: Ints, y: Ints) -> float:
    """Return Yule's Q, (N11 N00 - N01 N10) / (N11 N00 + N01 N10), in [-1, 1]; low: different errors."""
    return _of_counts(predictions, y, lambda n11, n10, n01, n00: (n11 * n00 - n01 * n10, n11 * n00 + n01 * n10))


def correlation(predictions: Ints, y: Ints) -> float:
    """Return the correlation of being right, rho, in [-1, 1]: Q's numerator over the root of the margins' product."""

    def parts(n11: float, n10: float, n01: float, n00: float) -> tuple[float, float]:
        return n11 * n00 - n01 * n10, ((n11 + n10) * (n01 + n00) * (n11 + n01) * (n10 + n00)) ** 0.5

    return _of_counts(predictions, y, parts)


def double_fault(predictions: Ints, y: Ints) -> float:
    """Return the mean share of samples that both of two members get wrong, N00 / N."""
    return _mean(float((~a & ~b).mean()) for a, b in _pairs(predictions == y))


def error_ratio(predictions: Ints, y: Ints) -> float:
    """Return different errors / same errors: of samples that both get wrong, labels that differ over labels that agree.

    Pairs without a same error do not count (Aksela 2003; "D/S error rate" of the SDDE paper's Table 1).
    """

    def ratio(a: Ints, b: Ints) -> tuple[float, float]:
        wrong = (a != y) & (b != y)
        return float((wrong & (a != b)).sum()), float((wrong & (a == b)).sum())

    return _mean(_divided(*ratio(a, b)) for a, b in _pairs(predictions))


def label_mutual_information(predictions: Ints) -> float:
    """Return the mutual information between two members' labels, in nats, mean over pairs; low: more diverse.

    sum_ab p(a, b) log(p(a, b) / (p(a) p(b))). What the SDDE paper's Table 1 calls MI: for ten balanced classes it is
    at most log 10 = 2.30, and the paper prints 2.06; :func:`mutual_information` would be a few hundredths there.
    """

    def information(a: Ints, b: Ints) -> float:
        joint = np.zeros((int(a.max()) + 1, int(b.max()) + 1))
        np.add.at(joint, (a, b), 1 / len(a))
        independent = joint.sum(1, keepdims=True) * joint.sum(0, keepdims=True)
        there = joint > 0
        return float((joint[there] * np.log(joint[there] / independent[there])).sum())

    return _mean(information(a, b) for a, b in _pairs(predictions))


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


def linear_cka(a: Floats, b: Floats) -> float:
    """Return the linear CKA of two feature matrices (N, D1) and (N, D2), N > 3, with unbiased HSIC; about [0, 1].

    CKA = HSIC(K, L) / sqrt(HSIC(K, K) HSIC(L, L)), K = a a^T, L = b b^T (Kornblith et al. 2019; unbiased HSIC of Song
    et al. 2012). 1: equal up to rotation and scale; 0: unrelated.
    """
    grams = []
    for features in (a, b):
        centred = np.asarray(features, np.float64) - np.asarray(features, np.float64).mean(0)
        gram = centred @ centred.T
        np.fill_diagonal(gram, 0.0)
        grams.append(gram)
    k, other = grams
    return _divided(_hsic(k, other), max(_hsic(k, k) * _hsic(other, other), 0.0) ** 0.5)


def _hsic(k: Floats, other: Floats) -> float:
    """Return the unbiased HSIC of two symmetric Gram matrices with zero diagonals."""
    n = len(k)
    trace = float((k * other).sum())
    sums = float(k.sum() * other.sum()) / ((n - 1) * (n - 2))
    rows = float(k.sum(0) @ other.sum(0)) * 2 / (n - 2)
    return (trace + sums - rows) / (n * (n - 3))


def _pairs(values: npt.NDArray[Any]) -> Iterator[tuple[Any, Any]]:
    if len(values) < 2:
        raise ValueError(f"a pairwise metric needs two members, not {len(values)}")
    return itertools.combinations(values, 2)


def _of_counts(predictions: Ints, y: Ints, parts: Callable[[float, float, float, float], tuple[float, float]]) -> float:
    """Return the mean over pairs of a fraction whose numerator and denominator are made of N11, N10, N01, N00."""
    shares = (((a & b).mean(), (a & ~b).mean(), (~a & b).mean(), (~a & ~b).mean()) for a, b in _pairs(predictions == y))
    return _mean(_divided(*parts(*map(float, share))) for share in shares)


def _divided(numerator: float, denominator: float) -> float:
    return numerator / denominator if denominator > 0 else float("nan")


def _mean(values: Iterator[float]) -> float:
    defined = [value for value in values if not np.isnan(value)]
    return float(np.mean(defined)) if defined else float("nan")


def _entropy(p: Floats) -> Floats:
    entropy: Floats = -np.where(p > 0, p * np.log(np.where(p > 0, p, 1.0)), 0.0).sum(-1)
    return entropy
