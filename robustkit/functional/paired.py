"""Two classifiers on the same images: tests, intervals, and how many images tell them apart. Never imports torch.

``b`` is on how many images only the first is right, ``c`` on how many only the second: the discordant pairs. What both
get right or wrong says nothing of which is better, so that a pair of classifiers is told apart by far fewer images than
two independent samples would need.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy.special import bdtr, ndtri, stdtr, stdtrit

from robustkit.functional.stats import Z95

Doubles = npt.NDArray[np.float64]
_HALVINGS = 60  # of an interval of length 2: below the spacing of doubles
_ROUNDING = 1e-12  # of a mean of at most a million shares
_POWER = 0.8  # with which a difference is to be seen
_LEAST = 0.01  # difference that is asked for where the two are equal


@dataclass(frozen=True)
class Paired:
    """The first minus the second over the same n samples.

    Attributes
    ----------
    difference, low, high : float
        Difference of the accuracies and its 95 % interval, in [-1, 1].
    only_first, only_second : int or None
        On how many samples only one of the two is right; None where answers are drawn, which are right by a chance.
    p : float
        Two-sided p-value of no difference: McNemar's exact one, or of the paired t test where answers are drawn.
    needed : int or None
        Samples that would tell the difference apart (:func:`images_needed`); None where the interval excludes zero.
    """

    n: int
    difference: float
    low: float
    high: float
    only_first: int | None
    only_second: int | None
    p: float
    needed: int | None


def compare(first: npt.ArrayLike, second: npt.ArrayLike) -> Paired:
    """Compare two classifiers by how likely each is right, (N,) and (N,) in [0, 1], on the same samples in one order.

    Raises
    ------
    ValueError
        If the two are not of one length, or empty.
    """
    x, y = np.asarray(first, np.float64), np.asarray(second, np.float64)
    if x.shape != y.shape or x.ndim != 1 or not len(x):
        raise ValueError(f"two lists of one length are compared, not {x.shape} and {y.shape}")
    n, difference = len(x), exactly(float((x - y).mean()))
    if not np.isin(x, (0, 1)).all() or not np.isin(y, (0, 1)).all():
        low, high, p = paired_t(x - y)
        # Two that do the same on every sample have no spread, and yet n samples do not show that they are the same.
        low, high = tango(0, 0, n) if not (x - y).any() else (max(low, -1.0), min(high, 1.0))
        spread = float(((x - y) ** 2).mean())
        return Paired(n, difference, low, high, None, None, p, _needed(difference, spread, low, high))
    b, c = int(((x == 1) & (y == 0)).sum()), int(((x == 0) & (y == 1)).sum())
    low, high = tango(b, c, n)
    spread = (b + c + 1) / (n + 2)  # of few pairs none may be discordant, and yet some are
    return Paired(n, difference, low, high, b, c, mcnemar(b, c), _needed(difference, spread, low, high))


def mcnemar(b: int, c: int, mid: bool = False) -> float:
    """Return the two-sided exact p-value of ``b`` against ``c`` discordant pairs (Q. McNemar 1947); 1 for none.

    Parameters
    ----------
    mid : bool
        Count only half of the probability of what was seen (mid-p, H. O. Lancaster 1961): less cautious, yet close to
        its level (Fagerland et al. 2013, doi:10.1186/1471-2288-13-91).
    """
    few, n = min(b, c), b + c
    p = 2 * float(bdtr(few, n, 0.5))
    if mid:
        p -= float(bdtr(few, n, 0.5)) - (float(bdtr(few - 1, n, 0.5)) if few else 0.0)
    return min(1.0, p)


def tango(b: int, c: int, n: int) -> tuple[float, float]:
    """Return the 95 % score interval of the difference of two paired shares, (b - c) / n.

    T. Tango 1998, Statistics in Medicine 17, 891-908: the differences that a score test does not refuse, with the share
    of discordant pairs fitted under each. Of Wald's, Bonett and Price's, Agresti and Min's and this one it keeps
    closest to 95 % (docs/compare.md).
    """
    if n == 0:
        return -1.0, 1.0
    return _bound(b, c, n, -1.0), _bound(b, c, n, 1.0)


def _bound(b: int, c: int, n: int, end: float) -> float:
    """Return the end of the interval between the observed difference and ``end``, by halving."""
    inside, outside = (b - c) / n, end
    if abs(_score(b, c, n, end)) <= Z95:
        return end
    for _ in range(_HALVINGS):
        middle = (inside + outside) / 2
        if abs(_score(b, c, n, middle)) <= Z95:
            inside = middle
        else:
            outside = middle
    return inside


def _score(b: int, c: int, n: int, delta: float) -> float:
    """Return how many standard deviations the observed difference is from ``delta`` (Tango's equation 4)."""
    linear = (2 * n - b + c) * delta - b - c
    constant = -c * delta * (1 - delta)
    share = (math.sqrt(max(linear * linear - 8 * n * constant, 0.0)) - linear) / (4 * n)  # of (wrong, right) pairs
    variance = n * (2 * share + delta * (1 - delta))
    gap = b - c - n * delta
    if variance <= 1e-12 * n:
        return 0.0 if abs(gap) < 1e-9 * n else math.copysign(math.inf, gap)
    return gap / math.sqrt(variance)


def exactly(difference: float) -> float:
    """Return a difference of shares, zero where it is no more than the rounding of a sum."""
    return 0.0 if abs(difference) < _ROUNDING else difference


def paired_t(differences: npt.ArrayLike, n: int | None = None) -> tuple[float, float, float]:
    """Return the 95 % interval of a mean difference, (K,) of K pairs, and the p-value of none (paired t test).

    Over seeds, each pair is two trainings of one seed. Fewer than two pairs say nothing: the whole line, and 1.

    Parameters
    ----------
    n : int or None
        Each difference is one of shares of so many samples, which are known to a sample. Where all are equal (and not
        0) the deviation is that of such rounding, 1 / (n sqrt(6)): three seeds that each differ by one image are no
        proof.
    """
    values = np.asarray(differences, np.float64)
    k = len(values)
    if k < 2:
        return -math.inf, math.inf, 1.0
    mean, error = float(values.mean()), float(values.std(ddof=1)) / math.sqrt(k)
    if n and mean and float(np.ptp(values)) < _ROUNDING:
        error = 1 / (n * math.sqrt(6 * k))
    half = float(stdtrit(k - 1, 0.975)) * error
    if error == 0:
        return mean, mean, 1.0 if mean == 0 else 0.0
    return mean - half, mean + half, 2 * float(stdtr(k - 1, -abs(mean) / error))


def holm(p: Sequence[float]) -> list[float]:
    """Return p-values adjusted for all being asked at once, in the order given (S. Holm 1979, step-down Bonferroni)."""
    order = sorted(range(len(p)), key=lambda i: p[i])
    adjusted, most = [0.0] * len(p), 0.0
    for rank, i in enumerate(order):
        most = max(most, min(1.0, (len(p) - rank) * p[i]))
        adjusted[i] = most
    return adjusted


def images_needed(difference: float, discordant: float, power: float = _POWER) -> int:
    """Return on how many images McNemar's test at 5 % sees a difference with that probability.

    R. J. Connor 1987, Biometrics 43, 207-211, equation 3.

    Parameters
    ----------
    difference : float
        Of the accuracies, in [-1, 1], not 0.
    discordant : float
        On which share of images just one of the two is right; at least the difference.
    """
    d = abs(difference)
    share = max(discordant, d)
    root = Z95 * math.sqrt(share) + float(ndtri(power)) * math.sqrt(max(share - d * d, 0.0))
    return math.ceil((root / d) ** 2)


def _needed(difference: float, discordant: float, low: float, high: float) -> int | None:
    """Return how many images would tell this difference, or a point where there is none; None where it is told."""
    if low > 0 or high < 0:
        return None
    return images_needed(told(difference), discordant)


def told(difference: float) -> float:
    """Return the difference that :class:`Paired` says how many images tell apart: as seen, at least a point."""
    return max(abs(difference), _LEAST)
