"""Wilson's interval against published values and its edges."""

from __future__ import annotations

import pytest

from robustkit.functional.stats import finite, standard_error, wilson


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
