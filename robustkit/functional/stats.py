"""Intervals for shares of samples, and numbers that are not defined. Never imports torch."""

from __future__ import annotations

import math

Z95 = 1.959963984540054  # 97.5 % quantile of the standard normal


def wilson(successes: float, n: int) -> tuple[float, float]:
    """Return the Wilson 95 % score interval of ``successes`` out of ``n`` (E. B. Wilson 1927); (0, 1) for n = 0.

    ``successes`` is no whole number where it is a mean of several.
    """
    if n == 0:
        return 0.0, 1.0
    p, z2 = successes / n, Z95 * Z95
    centre = (p + z2 / (2 * n)) / (1 + z2 / n)
    half = Z95 * math.sqrt(p * (1 - p) / n + z2 / (4 * n * n)) / (1 + z2 / n)
    # At p = 0 and p = 1 the bound is 0 and 1 exactly; rounding must not put it beyond.
    low = 0.0 if successes == 0 else centre - half
    high = 1.0 if successes == n else centre + half
    return low, high


def wilson_of(share: float, n: int) -> tuple[float, float]:
    """Return the Wilson 95 % interval of a share of n, in which rounding made no whole count an uneven one."""
    return wilson(round(share * n, 6), n)


def allowed(n: int, drop: float = 0.02, confidence: float = 0.95) -> int:
    """Return how many of n samples may break for a drop of that size to be ruled out with that confidence.

    The largest k for which P(Binomial(n, drop) <= k) <= 1 - confidence; -1 where n samples cannot rule it out.
    """
    term, below, k = n * math.log1p(-drop), 0.0, -1  # the log of a term: of many samples the first are below any float
    while below + math.exp(term) <= 1 - confidence:
        below, k = below + math.exp(term), k + 1
        term += math.log((n - k) / (k + 1) * drop / (1 - drop))
    return k


def standard_error(share: float, n: int) -> float:
    """Return the standard error of a share of n samples, never zero: of (k + 2) / (n + 4), Agresti and Coull 1998."""
    smoothed = (share * n + 2) / (n + 4)
    return math.sqrt(smoothed * (1 - smoothed) / n)


def finite(value: float) -> float | None:
    """Return a number, or None for one that is not defined: JSON has neither NaN nor infinity."""
    return float(value) if math.isfinite(value) else None


def binomial_tail(successes: int, n: int, share: float) -> float:
    """Return P(Binomial(n, share) >= successes), summed exactly; with a share of a half, the p of a paired sign test.

    Of two classifiers of the same images, ``n`` is then on how many exactly one is right, ``successes`` on how many of
    these it is the first (Q. McNemar 1947, in its exact form).
    """
    return min(1.0, math.fsum(math.comb(n, k) * share**k * (1 - share) ** (n - k) for k in range(successes, n + 1)))
