"""Some samples of a pool: which of them each subset of its members gets right, and how its members differ on them."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from robustkit.metrics import diversity

Ints = npt.NDArray[np.int64]
Bools = npt.NDArray[np.bool_]
Floats = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Block:
    """Some samples: what rules and measures need of every member, computed once for all subsets.

    Classes come before samples, so that a sum or maximum over classes runs along contiguous samples.
    """

    logits: Floats  # (M, L, n)
    probabilities: Floats  # (M, L, n)
    entropy: Floats  # (M, n)
    predictions: Ints  # (M, n)
    same: npt.NDArray[np.int16]  # (M, M, n), 1: equal labels
    gram: Floats  # (M, M, n), of ensemble_diversity
    y: Ints

    @classmethod
    def of(cls, logits: npt.NDArray[np.floating[Any]], predictions: Ints, y: Ints) -> Block:
        z = np.ascontiguousarray(np.asarray(logits, np.float64).transpose(0, 2, 1))
        shifted = z - z.max(1, keepdims=True)
        log_p = shifted - np.log(np.exp(shifted).sum(1, keepdims=True))
        p = np.exp(log_p)
        gram = np.ascontiguousarray(diversity.others_gram(logits, y).transpose(1, 2, 0))
        same = (predictions[:, None] == predictions).astype(np.int16)
        return cls(z, p, -(p * log_p).sum(1), predictions, same, gram, y)

    def right(self, subset: list[int], summed: Floats) -> Iterator[tuple[str, Bools]]:
        """Yield for each rule which samples a subset gets right, (n,); ties go to the lower label, as in argmax.

        ``summed`` (L, n) are the members' summed probabilities, which are lost.
        """
        yield "mean-logit", self._first_at_y(summed_over(self.logits, subset))
        yield "median", self._first_at_y(_middle(self.probabilities, subset))
        yield "majority", self._voted(subset, summed) == self.y
        yield "mean-prob", self._first_at_y(summed)

    def whole(self, subset: list[int], summed: Floats) -> Iterator[tuple[str, Floats]]:
        """Yield each measure of all members of a subset, of summed probabilities (L, n), on each sample, (n,)."""
        size, classes = len(subset), self.probabilities.shape[1]
        mean = summed / size
        logarithm = np.log(np.maximum(mean, np.finfo(float).tiny))
        yield "mutual_information", -np.einsum("ln,ln->n", mean, logarithm) - summed_over(self.entropy, subset) / size
        # With c_m members that answer as m does, -sum_labels f ln f is -mean_m ln(c_m / K).
        shares = np.log(np.arange(size + 1).clip(1) / size)
        spread: Floats = -sum(shares[summed_over(self.same[a], subset)] for a in subset) / size
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
            score = summed_over(self.same[member], subset) + summed[label, samples] / len(subset)
            better = (score > most) | ((score == most) & (label < winner))
            winner, most = np.where(better, label, winner), np.where(better, score, most)
        return winner


def summed_over(values: npt.NDArray[Any], subset: list[int]) -> npt.NDArray[Any]:
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
