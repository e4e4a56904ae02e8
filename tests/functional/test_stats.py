"""Wilson's interval against published values and its edges."""

from __future__ import annotations

from fractions import Fraction
from math import comb

import pytest
from scipy.stats import binom

from robustkit.functional.stats import allowed, binomial_tail, finite, standard_error, wilson, wilson_of


@pytest.mark.parametrize(
    ("successes", "n", "low", "high"),
    # Newcombe 1998, Statistics in Medicine 17, table I, method 3 (score without continuity correction).
    [(81, 263, 0.2553, 0.3662), (15, 148, 0.0624, 0.1605), (0, 20, 0.0, 0.1611), (1, 29, 0.0061, 0.1718)],
)
def test_published_intervals(successes: int, n: int, low: float, high: float):
    assert wilson(successes, n) == pytest.approx((low, high), abs=5e-5)


def test_edges():
    assert wilson(0, 0) == (0.0, 1.0)
    assert wilson(10, 10)[1] == 1.0
    assert wilson(10, 10)[0] == pytest.approx(1 - wilson(0, 10)[1])


def test_standard_error():
    assert standard_error(0.5, 10_000) == pytest.approx(0.005, rel=1e-3)
    assert 1 / 200 < standard_error(1.0, 200) < 2 / 200  # at 200 of 200 right, one error is within it, two are not


def test_what_is_not_defined_is_none():
    assert [finite(v) for v in (0.25, float("nan"), float("inf"), -float("inf"))] == [0.25, None, None, None]


@pytest.mark.parametrize(("n", "expected"), [
    (0, -1), (1, -1), (148, -1), (149, 0), (150, 0), (235, 0), (236, 1), (237, 1), (313, 2), (1000, 12),
])  # fmt: skip
def test_how_many_may_break_for_a_drop_of_two_points_to_be_ruled_out(n: int, expected: int):
    """Against sums of binomial terms that are exact."""
    assert allowed(n) == expected
    drop, doubt = Fraction(2, 100), Fraction(5, 100)

    def at_most(k: int) -> Fraction:
        return sum((comb(n, i) * drop**i * (1 - drop) ** (n - i) for i in range(k + 1)), Fraction(0))

    assert expected < 0 or at_most(expected) <= doubt
    assert at_most(expected + 1) > doubt


def test_a_smaller_drop_or_more_confidence_takes_more_samples():
    assert allowed(100_000) == 1926  # 2,000 less 1.645 standard deviations of 44.3, and the continuity correction
    assert [allowed(n, drop=0.01) for n in (298, 299)] == [-1, 0]  # 0.99^299 = 0.0495
    assert [allowed(n, confidence=0.99) for n in (227, 228)] == [-1, 0]  # 0.98^228 = 0.00999


def test_the_interval_of_a_share_is_that_of_its_count_whole_or_not():
    for n in (1, 7, 49, 500, 10_000):
        assert all(wilson_of(count / n, n) == wilson(count, n) for count in range(0, n + 1, max(1, n // 50)))
    low, high = wilson_of(0.0125, 40)  # half a sample: an expected accuracy
    assert wilson(0, 40)[1] < high < wilson(1, 40)[1]
    assert low < 0.0125 < high


@pytest.mark.parametrize(
    ("successes", "n", "share"), [(0, 5, 0.3), (3, 5, 0.3), (5, 5, 0.3), (7, 10, 0.5), (60, 100, 0.5)]
)
def test_binomial_tail_is_scipys(successes: int, n: int, share: float):
    assert binomial_tail(successes, n, share) == pytest.approx(float(binom.sf(successes - 1, n, share)), rel=1e-12)
