"""Paired comparisons against other libraries, by hand, and by simulation."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy import stats as scipy_stats
from statsmodels.stats import contingency_tables, multitest

from robustkit.functional.paired import compare, holm, images_needed, mcnemar, paired_t, tango, told

PAIRS = [(0, 0), (1, 0), (5, 1), (9, 2), (12, 12), (40, 22), (0, 17), (300, 251)]


@pytest.mark.parametrize(("b", "c"), PAIRS)
def test_mcnemar_is_the_two_sided_binomial_test(b: int, c: int):
    expected = scipy_stats.binomtest(b, b + c, 0.5).pvalue if b + c else 1.0
    assert mcnemar(b, c) == pytest.approx(expected, rel=1e-9)
    assert mcnemar(b, c) == mcnemar(c, b)
    table = contingency_tables.mcnemar([[50, b], [c, 30]], exact=True) if b + c else None
    assert table is None or mcnemar(b, c) == pytest.approx(table.pvalue, rel=1e-9)


@pytest.mark.parametrize(("b", "c"), PAIRS[1:])
def test_mid_p_counts_half_of_what_was_seen(b: int, c: int):
    if b != c:
        seen = scipy_stats.binom.pmf(min(b, c), b + c, 0.5)
        assert mcnemar(b, c, mid=True) == pytest.approx(mcnemar(b, c) - seen, rel=1e-9, abs=1e-12)
    assert mcnemar(b, c, mid=True) < mcnemar(b, c) or b == c


def test_eight_samples_by_hand():
    first = [1, 1, 1, 1, 1, 1, 0, 0]
    second = [1, 0, 0, 0, 0, 0, 1, 0]  # of eight, five only by the first, one only by the second
    found = compare(first, second)
    assert (found.only_first, found.only_second, found.n) == (5, 1, 8)
    assert found.difference == 4 / 8
    assert found.p == pytest.approx(
        2 * (1 + 6) / 2**6
    )  # none or one of six coins: 1 + 6 of 64 ways, and as many on the other side
    # Tango's interval: 4 - 8 d is 1.96 standard deviations of its own at either end.
    for delta in (found.low, found.high):
        share = (math.sqrt((11 * delta + delta - 6) ** 2 + 64 * delta * (1 - delta)) - (12 * delta - 6)) / 32
        assert abs(4 - 8 * delta) / math.sqrt(8 * (2 * share + delta * (1 - delta))) == pytest.approx(1.959964)
    assert found.low < 0 < found.high
    swapped = compare(second, first)
    assert (swapped.low, swapped.high) == pytest.approx((-found.high, -found.low))
    # Connor: six and a pseudo-pair of 8 + 2 are discordant; d = .5
    assert found.needed == math.ceil(((1.959964 * math.sqrt(0.7) + 0.841621 * math.sqrt(0.7 - 0.25)) / 0.5) ** 2) == 20


@pytest.mark.parametrize(("b", "c", "n"), [(5, 1, 8), (12, 5, 80), (0, 9, 200), (30, 24, 400)])
def test_interval_is_what_the_score_test_of_statsmodels_does_not_refuse(b: int, c: int, n: int):
    low, high = tango(b, c, n)
    # At a difference of zero Tango's score is McNemar's statistic without correction.
    p = contingency_tables.mcnemar([[n - b - c, b], [c, 0]], exact=False, correction=False).pvalue
    assert (low <= 0 <= high) == (p >= 0.05)
    assert -1 <= low < (b - c) / n < high <= 1


def test_published_interval():
    # 21 children before and after a transplantation, 1 and 7 discordant: Fagerland, Lydersen and Laake 2014,
    # Statistics in Medicine 33, 2850-2875, the asymptotic score interval.
    assert tango(1, 7, 21) == pytest.approx((-0.517, -0.026), abs=5e-4)


@pytest.mark.parametrize(
    ("n", "b", "c"),
    [(50, 0.1, 0.1), (100, 0.05, 0.05), (100, 0.1, 0.02), (100, 0.25, 0.02), (500, 0.3, 0.3), (500, 0.04, 0.01)],
)
def test_interval_covers_the_truth_in_93_to_97_of_100_simulations(n: int, b: float, c: float):
    generator = np.random.default_rng(0)
    counts = generator.multinomial(n, [b, c, 1 - b - c], size=20_000)
    pairs, times = np.unique(counts[:, :2], axis=0, return_counts=True)
    covered = [low <= b - c <= high for low, high in (tango(int(x), int(y), n) for x, y in pairs)]
    assert 0.93 <= float(np.average(covered, weights=times)) <= 0.97


def test_holm_is_that_of_statsmodels():
    p = [0.011, 0.02, 0.04, 0.9, 0.0004, 0.02]
    assert holm(p) == pytest.approx(multitest.multipletests(p, method="holm")[1].tolist())
    assert holm([]) == []


def test_paired_t_is_that_of_scipy():
    first, second = [0.31, 0.36, 0.29, 0.40, 0.33], [0.28, 0.30, 0.31, 0.35, 0.30]
    found = scipy_stats.ttest_rel(first, second)
    interval = found.confidence_interval(0.95)
    low, high, p = paired_t(np.subtract(first, second))
    assert (low, high, p) == pytest.approx((interval.low, interval.high, found.pvalue))
    assert paired_t([0.1]) == (-math.inf, math.inf, 1.0)
    assert paired_t([0.25, 0.25]) == (0.25, 0.25, 0.0)


def test_answers_that_are_drawn_are_compared_by_their_chances():
    first, second = np.array([0.5, 1.0, 0.75, 0.0, 0.25]), np.array([0.5, 0.5, 0.25, 0.0, 0.25])
    found = compare(first, second)
    assert found.only_first is None
    assert found.p == pytest.approx(scipy_stats.ttest_rel(first, second).pvalue)
    assert found.difference == pytest.approx(0.2)
    assert found.low < 0
    assert found.needed == images_needed(0.2, (0.25 + 0.25) / 5)


def test_so_many_images_see_the_difference_four_times_in_five():
    n = images_needed(0.04, 0.14)
    generator = np.random.default_rng(1)
    counts = generator.multinomial(n, [0.09, 0.05, 0.86], size=4000)
    # Connor's formula is of the statistic without correction for continuity.
    seen = (counts[:, 0] - counts[:, 1]) ** 2 / counts[:, :2].sum(1) > scipy_stats.chi2.ppf(0.95, 1)
    assert 0.77 <= seen.mean() <= 0.83


def test_equal_classifiers_are_asked_for_a_point():
    same = compare([1, 0, 1, 1], [1, 0, 1, 1])
    assert (same.difference, same.p) == (0.0, 1.0)
    assert told(same.difference) == 0.01
    assert same.needed == images_needed(0.01, 1 / 6)
    assert compare([1] * 30, [0] * 30).needed is None
    assert compare([0] * 30, [1] * 30).needed is None


def test_other_lengths_are_refused():
    with pytest.raises(ValueError, match="one length"):
        compare([1, 0], [1, 0, 1])


def test_equal_differences_over_seeds_are_no_proof():
    """Three seeds that each differ by one image of 50 have no deviation that could be measured, which is not none."""
    low, high, p = paired_t([0.02, 0.02, 0.54 - 0.52], n=50)
    assert low < 0 < 0.02 < high
    assert 0.05 < p < 0.06
    assert paired_t([0.3, 0.3, 0.3], n=50)[2] < 0.001  # fifteen images each
    assert paired_t([0.0, 0.0, 0.0], n=50) == (0.0, 0.0, 1.0)
    seeds = [0.02, 0.04, 0.06]
    assert paired_t(seeds, n=50) == paired_t(seeds)


def test_drawn_answers_that_are_equal_on_all_samples_are_not_shown_to_be_equal():
    found = compare([0.5, 1.0] * 25, [0.5, 1.0] * 25)
    assert (found.low, found.high) == tango(0, 0, 50)
    noise = compare([1 / 3, 2 / 3, 0.1] * 10, [2 / 3, 0.1, 1 / 3] * 10)  # equal but for the rounding of their sum
    assert noise.difference == 0.0


def test_an_interval_ends_where_a_difference_can():
    assert tango(5, 0, 5)[1] == 1.0
    assert tango(0, 5, 5)[0] == -1.0
    assert tango(0, 0, 0) == (-1.0, 1.0)
