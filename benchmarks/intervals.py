"""How often do 95 % intervals of a paired difference cover the truth? Exactly: every outcome weighed by its chance.

python benchmarks/intervals.py
"""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import cache

import numpy as np
from scipy.stats import multinomial

from robustkit.functional.paired import tango
from robustkit.functional.stats import Z95

Interval = Callable[[int, int, int], tuple[float, float]]
SAMPLES = (30, 100, 250, 500)
# How often only the first is right, and only the second: from two ensembles nearly alike to two that share little.
SHARES = (
    (0.02, 0.02), (0.05, 0.05), (0.1, 0.1), (0.3, 0.3), (0.05, 0.01), (0.1, 0.02), (0.2, 0.05), (0.25, 0.02),
    (0.5, 0.1), (0.02, 0.0), (0.1, 0.0),
)  # fmt: skip
RARE = 1e-10  # outcomes less likely than that are left out


def wald(b: float, c: float, n: float) -> tuple[float, float]:
    """Return the textbook interval."""
    half = Z95 * math.sqrt(max(b + c - (b - c) ** 2 / n, 0.0)) / n
    return (b - c) / n - half, (b - c) / n + half


def agresti_min(b: int, c: int, n: int) -> tuple[float, float]:
    """Return Wald's with half a pair added to each of the four cells (Agresti and Min 2005)."""
    return wald(b + 0.5, c + 0.5, n + 2)


def bonett_price(b: int, c: int, n: int) -> tuple[float, float]:
    """Return Wald's with one pair added to each discordant cell (Bonett and Price 2012)."""
    p, q = (b + 1) / (n + 2), (c + 1) / (n + 2)
    half = Z95 * math.sqrt((p + q - (p - q) ** 2) / (n + 2))
    return p - q - half, p - q + half


INTERVALS: dict[str, Interval] = {
    "Wald": wald, "Agresti and Min": agresti_min, "Bonett and Price": bonett_price, "Tango": cache(tango),
}  # fmt: skip


def coverage(interval: Interval, n: int, first: float, second: float) -> float:
    """Return how likely the interval covers the difference of the two shares."""
    pairs = [(b, c) for b in range(n + 1) for c in range(n + 1 - b)]
    counts = np.array([(b, c, n - b - c) for b, c in pairs])
    chances = multinomial.pmf(counts, n, [first, second, 1 - first - second])
    covered = 0.0
    for (b, c), chance in zip(pairs, chances, strict=True):
        if chance > RARE:
            low, high = interval(b, c, n)
            covered += chance * (low - 1e-9 <= first - second <= high + 1e-9)
    return covered


def main() -> None:
    """Print the least and the greatest coverage over the settings, by sample size."""
    print("| n | " + " | ".join(INTERVALS) + " |")
    print("|---:|" + "---:|" * len(INTERVALS))
    for n in SAMPLES:
        found = {name: [100 * coverage(one, n, *shares) for shares in SHARES] for name, one in INTERVALS.items()}
        print(f"| {n} | " + " | ".join(f"{min(own):.1f} to {max(own):.1f}" for own in found.values()) + " |")
    by = [f"{b:g}/{c:g} {100 * coverage(INTERVALS['Tango'], 100, b, c):.1f}" for b, c in SHARES]
    print("Tango, n = 100, by how often only the first and only the second is right:", ", ".join(by))


if __name__ == "__main__":
    main()
