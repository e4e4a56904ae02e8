"""How much two members differ, as matrices over all pairs of members. Pure NumPy.

``predictions`` are labels (M, N), ``y`` the true ones (N,). Of a pair (i, j), N11 is how many samples both get right,
N00 both wrong, N10 only i, N01 only j. Every matrix is (M, M), symmetric, NaN where a pair leaves 0 / 0 and infinite
where it leaves a ratio without a denominator; its diagonal is a member beside itself. Sources: Kuncheva and Whitaker
2003; Aksela 2003.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

Ints = npt.NDArray[np.int64]
Floats = npt.NDArray[np.floating[Any]]
Measure = Callable[[Ints, Ints], Floats]


def oracle_disagreement(predictions: Ints, y: Ints) -> Floats:
    """Return the share of samples that exactly one of two members gets right, (N10 + N01) / N."""
    _, n10, n01, _ = counts(predictions, y)
    shares: Floats = (n10 + n01) / len(y)
    return shares


def label_disagreement(predictions: Ints, y: Ints) -> Floats:
    """Return the share of samples on which two members answer differently; y is not used."""
    shares: Floats = 1 - _agreements(predictions) / predictions.shape[1]
    return shares


def q_statistic(predictions: Ints, y: Ints) -> Floats:
    """Return Yule's Q, (N11 N00 - N01 N10) / (N11 N00 + N01 N10), in [-1, 1]; low: different errors."""
    n11, n10, n01, n00 = counts(predictions, y)
    return ratio(n11 * n00 - n01 * n10, n11 * n00 + n01 * n10)


def correlation(predictions: Ints, y: Ints) -> Floats:
    """Return the correlation of being right, rho, in [-1, 1]: Q's numerator over the root of the margins' product."""
    n11, n10, n01, n00 = counts(predictions, y)
    margins = (n11 + n10) * (n01 + n00) * (n11 + n01) * (n10 + n00)
    return ratio(n11 * n00 - n01 * n10, np.sqrt(margins))


def double_fault(predictions: Ints, y: Ints) -> Floats:
    """Return the share of samples that both of two members get wrong, N00 / N."""
    shares: Floats = counts(predictions, y)[3] / len(y)
    return shares


def error_ratio(predictions: Ints, y: Ints) -> Floats:
    """Return different errors / same errors: of samples that both get wrong, labels that differ over labels that agree.

    Infinite for a pair with different errors and no same one. Aksela 2003; "D/S error rate" of the SDDE paper's Table
    1. deslib's ``ratio_errors`` is another: (N01 + N10) / N00.
    """
    return ratio(*errors(predictions, y))


def errors(predictions: Ints, y: Ints) -> tuple[Floats, Floats]:
    """Return on how many samples both of two members are wrong with different and with the same labels, (M, M) each."""
    n11, _, _, n00 = counts(predictions, y)
    same = _agreements(predictions) - n11  # two that agree are both right or both wrong
    return n00 - same, same


def label_mutual_information(predictions: Ints, y: Ints) -> Floats:
    """Return the mutual information between two members' labels, in nats; low: more diverse; y is not used.

    sum_ab p(a, b) log(p(a, b) / (p(a) p(b))). Its diagonal is the entropy of a member's labels.
    """
    members, n = predictions.shape
    classes = int(predictions.max()) + 1
    own = [np.bincount(labels, minlength=classes) / n for labels in predictions]
    found = np.zeros((members, members))
    for i in range(members):
        for j in range(i, members):
            # Only what occurs: of a thousand classes, a table of all combinations would be nearly empty.
            both, times = np.unique(predictions[i] * classes + predictions[j], return_counts=True)
            independent = own[i][both // classes] * own[j][both % classes]
            found[i, j] = found[j, i] = float((times / n * np.log(times / n / independent)).sum())
    return found


PAIRWISE: Mapping[str, Measure] = {
    "oracle-disagreement": oracle_disagreement,
    "label-disagreement": label_disagreement,
    "q-statistic": q_statistic,
    "correlation": correlation,
    "double-fault": double_fault,
    "error-ratio": error_ratio,
    "label-mutual-information": label_mutual_information,
}


def counts(predictions: Ints, y: Ints) -> tuple[Floats, Floats, Floats, Floats]:
    """Return N11, N10, N01 and N00 of every pair, (M, M) each, as whole float64 numbers."""
    right = (predictions == y).astype(np.float64)
    n11: Floats = right @ right.T
    n10: Floats = right.sum(1)[:, None] - n11
    n00: Floats = len(y) - n11 - n10 - n10.T
    return n11, n10, n10.T, n00


def of_all_pairs(name: str, predictions: Ints, y: Ints) -> float:
    """Return one number for all pairs i < j: the mean of a measure, of the ratio of errors that of the sums.

    A ratio of sums counts a pair that has no same error, whose own ratio would be infinite.
    """
    if name == "error-ratio":
        different, same = (float(_upper(matrix).sum()) for matrix in errors(predictions, y))
        return float(ratio(np.array(different), np.array(same)))
    return mean_of_pairs(PAIRWISE[name](predictions, y))


def mean_of_pairs(matrix: Floats) -> float:
    """Return the mean over pairs i < j of a matrix (M, M); a pair that is NaN does not count, NaN where none does."""
    values = _upper(matrix)
    defined = values[~np.isnan(values)]
    return float(defined.mean()) if len(defined) else float("nan")


def pairs(members: int) -> list[tuple[int, int]]:
    """Return the pairs i < j, in the order of rows of an upper triangle."""
    return [(i, j) for i in range(members) for j in range(i + 1, members)]


def symmetric(values: Floats, members: int, diagonal: float) -> Floats:
    """Return the matrix (M, M) of one value per pair, in the order of :func:`pairs`."""
    matrix = np.full((members, members), diagonal)
    for (i, j), value in zip(pairs(members), values, strict=True):
        matrix[i, j] = matrix[j, i] = value
    return matrix


def ratio(numerator: Floats, denominator: Floats) -> Floats:
    """Return the ratio; x / 0 is infinite, 0 / 0 NaN."""
    there = denominator > 0
    ratio: Floats = np.where(there, numerator / np.where(there, denominator, 1.0), np.nan)
    return np.where(~there & (numerator > 0), np.inf, ratio)


def _upper(matrix: Floats) -> Floats:
    if len(matrix) < 2:
        raise ValueError(f"a pairwise metric needs two members, not {len(matrix)}")
    return matrix[np.triu_indices(len(matrix), 1)]


def _agreements(predictions: Ints) -> Floats:
    """Return on how many samples two members answer alike, (M, M)."""
    return np.stack([(predictions == own).sum(1) for own in predictions]).astype(np.float64)
