"""Every subset of a pool of members, scored from logits that were computed once. Pure NumPy.

``subsets`` are rows of member indices (S, K), ``member_logits`` are (M, N, L) and finite, ``y`` the true labels (N,).
What is in memory at a time does not grow with N or S. The numbers are those of :mod:`robustkit.fusion` and
:mod:`robustkit.metrics.diversity` for each subset by itself, in float64.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy.stats import rankdata

from robustkit.metrics import diversity

Ints = npt.NDArray[np.int64]
Bools = npt.NDArray[np.bool_]
Floats = npt.NDArray[np.float64]

ELEMENTS = 2**17  # of an intermediate array; larger ones leave the processor's cache
RULES = ("mean-prob", "mean-logit", "median", "geometric-mean", "majority")
PAIRWISE: Mapping[str, Callable[[Any, Any], float]] = {
    "oracle_disagreement": diversity.oracle_disagreement,
    "label_disagreement": lambda predictions, _: diversity.label_disagreement(predictions),
    "q_statistic": diversity.q_statistic,
    "rho": diversity.correlation,
    "double_fault": diversity.double_fault,
    "error_ratio": diversity.error_ratio,
    "label_mutual_information": lambda predictions, _: diversity.label_mutual_information(predictions),
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
        block = _Block.of(member_logits[:, rows], predictions[:, rows], y[rows])
        for at, subset in enumerate(subsets.tolist()):
            summed = _summed(block.probabilities, subset)
            for name, values in block.whole(subset, summed):
                sums[name][at] += values.sum()
            for rule, hits in block.right(subset, summed):
                right[rule][at] += np.count_nonzero(hits)
        if advance:
            advance(len(block.y))
    right["geometric-mean"] = right["mean-logit"]  # the same predictions: log-probabilities differ by a constant
    own = (predictions == y).mean(1)
    measures = {name: _over_pairs(matrix, subsets) for name, matrix in pair_matrices(predictions, y).items()}
    measures |= {name: values / n for name, values in sums.items()}
    measures["member_accuracy"] = own[subsets].mean(1)
    return Scored(own, own[subsets].max(1), {rule: hits / n for rule, hits in right.items()}, measures)


def pair_matrices(predictions: Ints, y: Ints) -> dict[str, Floats]:
    """Return every pairwise measure as a symmetric matrix (M, M), NaN on the diagonal and where it is not defined."""
    members = len(predictions)
    matrices = {name: np.full((members, members), np.nan) for name in PAIRWISE}
    for a, b in itertools.combinations(range(members), 2):
        pair = predictions[[a, b]]
        for name, measure in PAIRWISE.items():
            matrices[name][a, b] = matrices[name][b, a] = measure(pair, y)
    return matrices


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

    A subset whose measure is NaN does not count; both are NaN where fewer than three are left or a column is constant.
    """
    there = ~np.isnan(measure)
    a, b = gain[there], measure[there]
    return _pearson(a, b), _pearson(rankdata(a), rankdata(b)), int(there.sum())


@dataclass(frozen=True)
class _Block:
    """Some samples: what rules and measures need of every member, computed once for all subsets.

    Classes come before samples, so that a sum or maximum over classes runs along contiguous samples.
    """

    logits: Floats  # (M, L, n)
    probabilities: Floats  # (M, L, n)
    entropy: Floats  # (M, n)
    predictions: Ints  # (M, n)
    same: npt.NDArray[np.int8]  # (M, M, n), 1: equal labels
    gram: Floats  # (M, M, n), of ensemble_diversity
    y: Ints

    @classmethod
    def of(cls, logits: npt.NDArray[np.floating[Any]], predictions: Ints, y: Ints) -> _Block:
        z = np.ascontiguousarray(np.asarray(logits, np.float64).transpose(0, 2, 1))
        shifted = z - z.max(1, keepdims=True)
        log_p = shifted - np.log(np.exp(shifted).sum(1, keepdims=True))
        p = np.exp(log_p)
        gram = np.ascontiguousarray(diversity.others_gram(logits, y).transpose(1, 2, 0))
        same = (predictions[:, None] == predictions).astype(np.int8)
        return cls(z, p, -(p * log_p).sum(1), predictions, same, gram, y)

    def right(self, subset: list[int], summed: Floats) -> Iterator[tuple[str, Bools]]:
        """Yield for each rule which samples a subset gets right, (n,); ties go to the lower label, as in argmax.

        ``summed`` (L, n) are the members' summed probabilities, which are lost.
        """
        yield "mean-logit", self._first_at_y(_summed(self.logits, subset))
        yield "median", self._first_at_y(_middle(self.probabilities, subset))
        yield "majority", self._voted(subset, summed) == self.y
        yield "mean-prob", self._first_at_y(summed)

    def whole(self, subset: list[int], summed: Floats) -> Iterator[tuple[str, Floats]]:
        """Yield each measure of all members of a subset, of summed probabilities (L, n), on each sample, (n,)."""
        size, classes = len(subset), self.probabilities.shape[1]
        mean = summed / size
        logarithm = np.log(np.maximum(mean, np.finfo(float).tiny))
        yield "mutual_information", -np.einsum("ln,ln->n", mean, logarithm) - _summed(self.entropy, subset) / size
        # With c_m members that answer as m does, -sum_labels f ln f is -mean_m ln(c_m / K).
        shares = np.log(np.arange(size + 1).clip(1) / size)
        spread: Floats = -sum(shares[_summed(self.same[a], subset)] for a in subset) / size
        yield "equitability", spread / math.log(min(size, classes))
        if size <= classes - 1:
            yield "ensemble_diversity", _determinant(self.gram[np.ix_(subset, subset)]).clip(0.0, 1.0)

    def _first_at_y(self, values: Floats) -> Bools:
        """Return whether the true label is the first argmax over classes of values (L, n), which are lost."""
        samples = np.arange(len(self.y))
        own = values[self.y, samples]
        values[self.y, samples] = -np.inf
        best = values.max(0)
        hits: Bools = own > best
        for at in np.flatnonzero(own == best):
            hits[at] = self.y[at] < values[:, at].argmax()
        return hits

    def _voted(self, subset: list[int], summed: Floats) -> Ints:
        """Return the label with the most votes, (n,); the summed probabilities (L, n) break ties."""
        samples = np.arange(len(self.y))
        winner: Ints = np.full(len(self.y), len(summed))  # none yet
        most = np.zeros(len(self.y))
        for member in subset:
            label = self.predictions[member]
            # A vote more outweighs any mean probability.
            score = _summed(self.same[member], subset) + summed[label, samples] / len(subset)
            better = (score > most) | ((score == most) & (label < winner))
            winner, most = np.where(better, label, winner), np.where(better, score, most)
        return winner


def _summed(values: npt.NDArray[Any], subset: list[int]) -> npt.NDArray[Any]:
    """Return the sum over a subset's members."""
    total: npt.NDArray[Any] = values[subset[0]] + values[subset[1]]
    for member in subset[2:]:
        total += values[member]
    return total


def _middle(values: Floats, subset: list[int]) -> Floats:
    """Return the median over a subset's members, of an even number twice that; by odd-even transposition."""
    size, ordered = len(subset), [values[member] for member in subset]
    for turn in range(size):
        for at in range(turn % 2, size - 1, 2):
            low, high = ordered[at], ordered[at + 1]
            ordered[at], ordered[at + 1] = np.minimum(low, high), np.maximum(low, high)
    middle: Floats = ordered[size // 2] if size % 2 else ordered[size // 2] + ordered[size // 2 - 1]
    return middle


def _determinant(gram: Floats) -> Floats:
    """Return the determinants (n,) of positive semidefinite matrices (K, K, n), by elimination without pivoting."""
    determinant: Floats = gram[0, 0].copy()
    for step in range(1, len(gram)):
        pivot = gram[step - 1, step - 1]
        factor = np.divide(gram[step:, step - 1], pivot, out=np.zeros_like(gram[step:, step - 1]), where=pivot > 1e-300)
        gram[step:, step:] -= factor[:, None] * gram[step - 1, step:]
        determinant *= gram[step, step]
    return determinant


def _over_pairs(matrix: Floats, subsets: Ints) -> Floats:
    """Return the mean over each subset's pairs, (S,), of those for which the measure is defined; NaN where none is."""
    pairs = itertools.combinations(range(subsets.shape[1]), 2)
    values = np.stack([matrix[subsets[:, a], subsets[:, b]] for a, b in pairs])
    there = ~np.isnan(values)
    counts = there.sum(0)
    mean: Floats = np.where(counts > 0, np.where(there, values, 0.0).sum(0) / np.maximum(counts, 1), np.nan)
    return mean


def _pearson(a: Floats, b: Floats) -> float:
    if len(a) < 3:
        return math.nan
    a, b = a - a.mean(), b - b.mean()
    # Columns that differ by rounding only are constant: their correlation would be noise.
    if min(np.abs(a).max(), np.abs(b).max()) < 1e-12:
        return math.nan
    return float(np.clip(a @ b / math.sqrt(float(a @ a) * float(b @ b)), -1.0, 1.0))
