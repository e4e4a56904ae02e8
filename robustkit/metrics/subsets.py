"""Every subset of a pool of members, scored from logits that were computed once. Pure NumPy.

``subsets`` are rows of member indices (S, K), ``member_logits`` are (M, N, L) and finite, ``y`` the true labels (N,).
What is in memory at a time does not grow with N or S. The numbers are those of :mod:`robustkit.ensembles.fusion` and
:mod:`robustkit.metrics.diversity` for each subset by itself, in float64.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy.stats import rankdata

from robustkit.metrics import pairwise
from robustkit.metrics._subset_block import Block, summed_over

Ints = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float64]

ELEMENTS = 2**17  # of an intermediate array; larger ones leave the processor's cache
RULES = ("mean-prob", "mean-logit", "median", "geometric-mean", "majority")
PAIRWISE: Mapping[str, pairwise.Measure] = {
    "oracle_disagreement": pairwise.oracle_disagreement,
    "label_disagreement": pairwise.label_disagreement,
    "q_statistic": pairwise.q_statistic,
    "rho": pairwise.correlation,
    "double_fault": pairwise.double_fault,
    "error_ratio": pairwise.error_ratio,  # summed over pairs before it is divided
    "label_mutual_information": pairwise.label_mutual_information,
}
WHOLE = ("mutual_information", "equitability", "ensemble_diversity")  # of all members of a subset together
ATTRIBUTION = ("attribution_variance", "attribution_variance_normalised")
MEASURES = (*PAIRWISE, *WHOLE, *ATTRIBUTION, "member_accuracy")


@dataclass(frozen=True)
class Scored:
    """Of S subsets of M members: accuracies and measures of diversity, NaN where one is not defined.

    ``member_accuracy`` (M,) is each member's own, ``best`` (S,) that of a subset's most accurate member, ``accuracy``
    (S,) by fusion rule, ``measures`` (S,) by name, the mean accuracy of a subset's members among them.
    """

    member_accuracy: Floats
    best: Floats
    accuracy: Mapping[str, Floats]
    measures: Mapping[str, Floats]

    def gain(self, rule: str) -> Floats:
        """Return accuracy of the subset - accuracy of its best member, (S,), in [-1, 1]."""
        return self.accuracy[rule] - self.best


def choose(members: int, size: int, most: int, seed: int = 0) -> Ints:
    """Return all subsets of a size, (S, K), in lexicographic order; beyond ``most``, that many drawn at random."""
    if not 2 <= size <= members:
        raise ValueError(f"subsets of {size} of {members} members")
    if math.comb(members, size) <= most:
        return np.array(list(itertools.combinations(range(members), size)), np.int64)
    generator, drawn = np.random.default_rng(seed), set[tuple[int, ...]]()
    while len(drawn) < most:
        drawn.add(tuple(sorted(generator.choice(members, size, replace=False).tolist())))
    return np.array(sorted(drawn), np.int64)


def score(
    member_logits: npt.NDArray[np.floating[Any]], y: Ints, subsets: Ints, advance: Callable[[int], object] | None = None
) -> Scored:
    """Return accuracies by fusion rule and measures of diversity of every subset.

    Parameters
    ----------
    member_logits : array (M, N, L)
        Finite.
    y : array (N,)
        True labels.
    subsets : array (S, K)
        Rows of distinct member indices, K >= 2.
    advance : callable or None
        Called with how many of the N samples are done.
    """
    members, n, classes = member_logits.shape
    predictions = np.asarray(member_logits.argmax(2), np.int64)
    right = {rule: np.zeros(len(subsets)) for rule in RULES}
    sums = {name: np.zeros(len(subsets)) for name in WHOLE}
    step = max(1, ELEMENTS // classes)
    for start in range(0, n, step):
        rows = slice(start, min(start + step, n))
        block = Block.of(member_logits[:, rows], predictions[:, rows], y[rows])
        for at, subset in enumerate(subsets.tolist()):
            summed = summed_over(block.probabilities, subset)
            for name, values in block.whole(subset, summed):
                sums[name][at] += values.sum()
            for rule, hits in block.right(subset, summed):
                right[rule][at] += np.count_nonzero(hits)
        if advance:
            advance(len(block.y))
    right["geometric-mean"] = right["mean-logit"]  # the same predictions: log-probabilities differ by a constant
    own = (predictions == y).mean(1)
    measures = {name: _over_pairs(measure(predictions, y), subsets) for name, measure in PAIRWISE.items()}
    different, same = (_sum(counted, subsets) for counted in pairwise.errors(predictions, y))
    measures["error_ratio"] = np.asarray(pairwise.ratio(different, same), np.float64)
    measures |= {name: values / n for name, values in sums.items()}
    measures["member_accuracy"] = own[subsets].mean(1)
    return Scored(own, own[subsets].max(1), {rule: hits / n for rule, hits in right.items()}, measures)


def attribution_variance(gram: npt.NDArray[np.floating[Any]], subsets: Ints, *, normalised: bool) -> Floats:
    """Return the attribution variance of each subset, (S,), mean over samples (design-diversity paper, eq. 7).

    A = sum over channels and pixels of the variance over members (the population's) of their absolute saliency a_m,
    which is mean_m |a_m|^2 - |mean_m a_m|^2, so that the products of the maps suffice.

    Parameters
    ----------
    gram : array (N, M, M)
        The inner products of the members' maps on each sample.
    normalised : bool
        Whether each a_m has length 1 first. Then A is in [0, 1 - 1/K]; else it grows with the scale of the logits.
    """
    products = np.asarray(gram, np.float64)
    if normalised:
        length = np.sqrt(np.einsum("nmm->nm", products))
        scale = np.divide(1.0, length, out=np.zeros_like(length), where=length > 0)
        products = products * scale[:, :, None] * scale[:, None, :]
    mean = products.mean(0)
    of_subsets = mean[subsets[:, :, None], subsets[:, None, :]]
    variance: Floats = np.maximum(np.diag(mean)[subsets].mean(1) - of_subsets.mean((1, 2)), 0.0)
    return variance


def correlations(gain: Floats, measure: Floats) -> tuple[float, float, int]:
    """Return the Pearson and the Spearman correlation of two columns, and how many subsets are in them.

    A subset whose measure is NaN or infinite does not count; both are NaN where fewer than three are left or a column
    is constant.
    """
    there = np.isfinite(measure)
    a, b = gain[there], measure[there]
    return _pearson(a, b), _pearson(rankdata(a), rankdata(b)), int(there.sum())


def _over_pairs(matrix: npt.NDArray[np.floating[Any]], subsets: Ints) -> Floats:
    """Return the mean over each subset's pairs, (S,), of those for which the measure is defined; NaN where none is."""
    values = _of_pairs(matrix, subsets)
    there = ~np.isnan(values)
    counts = there.sum(0)
    mean: Floats = np.where(counts > 0, np.where(there, values, 0.0).sum(0) / np.maximum(counts, 1), np.nan)
    return mean


def _sum(matrix: npt.NDArray[np.floating[Any]], subsets: Ints) -> Floats:
    total: Floats = _of_pairs(matrix, subsets).sum(0)
    return total


def _of_pairs(matrix: npt.NDArray[np.floating[Any]], subsets: Ints) -> Floats:
    """Return the values (P, S) of each pair of each subset."""
    return np.stack(
        [matrix[subsets[:, a], subsets[:, b]] for a, b in itertools.combinations(range(subsets.shape[1]), 2)]
    )


def _pearson(a: Floats, b: Floats) -> float:
    if len(a) < 3:
        return math.nan
    a, b = a - a.mean(), b - b.mean()
    # Columns that differ by rounding only are constant: their correlation would be noise.
    if min(np.abs(a).max(), np.abs(b).max()) < 1e-12:
        return math.nan
    return float(np.clip(a @ b / math.sqrt(float(a @ a) * float(b @ b)), -1.0, 1.0))
