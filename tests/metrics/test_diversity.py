"""Diversity metrics against numbers worked by hand, scikit-learn and NumPy, and the SDDE paper's own table."""

from __future__ import annotations

import math

import numpy as np
import pytest
from sklearn.metrics import mutual_info_score

from robustkit.metrics import diversity as d

Y = np.zeros(10, int)
A = np.array([0, 0, 0, 0, 0, 0, 1, 1, 2, 1])  # right on the first six
B = np.array([0, 0, 0, 0, 0, 2, 0, 1, 1, 1])  # right on five of these and on the seventh
# N11 = 5, N10 = 1 (sixth), N01 = 1 (seventh), N00 = 3 (two equal errors, one different).
PAIR = np.stack([A, B])


def test_a_pair_by_hand():
    assert d.oracle_disagreement(PAIR, Y) == pytest.approx(2 / 10)
    assert d.label_disagreement(PAIR) == pytest.approx(3 / 10)
    assert d.q_statistic(PAIR, Y) == pytest.approx((15 - 1) / (15 + 1))
    assert d.correlation(PAIR, Y) == pytest.approx((15 - 1) / math.sqrt(6 * 4 * 6 * 4))
    assert d.double_fault(PAIR, Y) == pytest.approx(3 / 10)
    assert d.error_ratio(PAIR, Y) == pytest.approx(1 / 2)


def test_three_members_are_the_mean_of_three_pairs():
    third = np.array([0, 0, 0, 1, 0, 0, 0, 1, 2, 0])
    three = np.stack([A, B, third])
    pairs = [np.stack(p) for p in ((A, B), (A, third), (B, third))]
    for metric in (d.oracle_disagreement, d.q_statistic, d.correlation, d.double_fault, d.error_ratio):
        assert metric(three, Y) == pytest.approx(np.mean([metric(p, Y) for p in pairs])), metric.__name__
    for metric in (d.label_disagreement, d.label_mutual_information):
        assert metric(three) == pytest.approx(np.mean([metric(p) for p in pairs])), metric.__name__


def test_against_independent_implementations():
    rng = np.random.default_rng(0)
    y = rng.integers(0, 7, 500)
    members = np.where(rng.random((2, 500)) < 0.7, y, rng.integers(0, 7, (2, 500)))
    assert d.label_mutual_information(members) == pytest.approx(mutual_info_score(*members))
    right = members == y
    assert d.correlation(members, y) == pytest.approx(np.corrcoef(right)[0, 1])


def test_what_is_not_defined_is_nan_and_does_not_count():
    perfect = np.zeros((2, 10), int)
    assert d.oracle_disagreement(perfect, Y) == 0
    assert all(math.isnan(metric(perfect, Y)) for metric in (d.q_statistic, d.correlation, d.error_ratio))
    # Of three pairs only A with B is defined: the perfect member makes no error.
    assert d.error_ratio(np.stack([A, B, Y]), Y) == pytest.approx(d.error_ratio(PAIR, Y))
    with pytest.raises(ValueError, match="needs two members, not 1"):
        d.label_disagreement(A[None])


def test_mutual_information_of_probabilities():
    opposite = np.array([[[1.0, 0.0]], [[0.0, 1.0]]])
    assert d.mutual_information(opposite) == pytest.approx([math.log(2)])
    same = np.full((3, 4, 5), 0.2)
    np.testing.assert_allclose(d.mutual_information(same), np.zeros(4), atol=1e-12)
    # Members (.9, .1) and (.5, .5): H(.7, .3) - (H(.9, .1) + H(.5, .5)) / 2 = .610864 - (.325083 + .693147) / 2
    mixed = np.array([[[0.9, 0.1]], [[0.5, 0.5]]])
    assert d.mutual_information(mixed) == pytest.approx([0.101749], abs=1e-6)


def test_cka_sees_through_rotation_and_scale_and_nothing_else():
    rng = np.random.default_rng(1)
    a, b = rng.normal(size=(300, 8)), rng.normal(size=(300, 20))
    rotation = np.linalg.qr(rng.normal(size=(8, 8)))[0]
    assert d.linear_cka(a, 3 * a @ rotation + 5) == pytest.approx(1.0)
    assert abs(d.linear_cka(a, b)) < 0.03
    half = np.hstack([a, rng.normal(size=(300, 8))])
    assert 0.55 < d.linear_cka(a, half) < 0.85  # half of the variance is a's: 1 / sqrt(2)


@pytest.mark.parametrize(
    ("disagreement", "correlation", "ratio", "error"),
    # Table 1 of the SDDE paper, CIFAR-10: DE, NCL, ADP, DICE, SDDE.
    [
        (4.37, 58.85, 0.22, 4.89),
        (4.32, 59.92, 0.22, 4.95),
        (4.89, 57.52, 0.32, 5.14),
        (4.88, 57.61, 0.25, 5.24),
        (4.33, 59.29, 0.23, 4.87),
    ],
)
def test_the_definitions_are_those_of_the_sdde_table(disagreement, correlation, ratio, error):
    """Its disagreement is that of labels: of members with error p and correlation rho, computed from both."""
    p, rho = error / 100, correlation / 100
    both_wrong = rho * p * (1 - p) + p * p
    oracle = 2 * (p - both_wrong)
    different = both_wrong * ratio / (1 + ratio)
    assert 100 * (oracle + different) == pytest.approx(disagreement, abs=0.05)
    assert 100 * oracle < disagreement - 0.4
