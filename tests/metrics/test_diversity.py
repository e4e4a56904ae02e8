"""Diversity metrics against numbers worked by hand, deslib, scikit-learn, SciPy, and the SDDE paper's own table."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy.special import rel_entr
from scipy.stats import entropy
from sklearn.metrics import mutual_info_score

from robustkit.metrics import diversity as d
from robustkit.metrics import pairwise

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
    for metric in (d.oracle_disagreement, d.q_statistic, d.correlation, d.double_fault):
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


def many() -> tuple[np.ndarray, np.ndarray]:
    """Five members of different skill on 400 samples of 7 classes, with errors in common."""
    rng = np.random.default_rng(3)
    y = rng.integers(0, 7, 400)
    easy, decoy = rng.random(400), rng.integers(0, 7, 400)
    wrong = np.where(rng.random((5, 400)) < 0.5, decoy, rng.integers(0, 7, (5, 400)))
    skill = np.array([0.5, 0.6, 0.7, 0.8, 0.9])[:, None]
    return np.where(easy + 0.3 * rng.normal(size=(5, 400)) < skill, y, wrong), y


@pytest.mark.parametrize(
    ("name", "theirs"),
    [
        ("oracle-disagreement", "disagreement_measure"),
        ("q-statistic", "Q_statistic"),
        ("correlation", "correlation_coefficient"),
        ("double-fault", "double_fault"),
    ],
)
def test_matrices_against_deslib(name: str, theirs: str):
    reference = pytest.importorskip("deslib.util.diversity")
    members, y = many()
    found = pairwise.PAIRWISE[name](members, y)
    expected = [[getattr(reference, theirs)(y, a, b) for b in members] for a in members]
    np.testing.assert_allclose(found, expected, atol=1e-12)
    assert len(set(np.round(found[np.triu_indices(5, 1)], 6))) > 5  # few pairs alike: a mix-up would show
    whole = getattr(d, name.replace("-", "_"))(members, y)
    assert whole == pytest.approx(np.mean(np.array(expected)[np.triu_indices(5, 1)]))


def test_matrices_that_deslib_has_not():
    members, y = many()
    ratio, label, information = (
        pairwise.PAIRWISE[name](members, y)
        for name in ("error-ratio", "label-disagreement", "label-mutual-information")
    )
    for i, a in enumerate(members):
        for j, b in enumerate(members):
            wrong = [(p, q) for p, q, t in zip(a, b, y, strict=True) if t not in (p, q)]
            same = sum(p == q for p, q in wrong)
            assert ratio[i, j] == pytest.approx((len(wrong) - same) / same)
            assert label[i, j] == pytest.approx((a != b).mean())
            assert information[i, j] == pytest.approx(mutual_info_score(a, b))


FOUR = np.array([[0, 0, 1, 1], [0, 1, 1, 2], [0, 1, 2, 0]])  # three members, four samples
TRUE = np.array([0, 0, 1, 2])


def test_four_samples_by_hand():
    """Right: 1110, 1011, 1000. Pair (0, 1): N11 2, N10 1, N01 1, N00 0; (0, 2): 1, 2, 0, 1; (1, 2): 1, 2, 0, 1."""
    expected = {
        "oracle-disagreement": (2 / 4, 2 / 4, 2 / 4),
        "label-disagreement": (2 / 4, 3 / 4, 2 / 4),
        "q-statistic": (-1, 1, 1),
        "correlation": (-1 / 3, 1 / math.sqrt(9), 1 / math.sqrt(9)),
        "double-fault": (0, 1 / 4, 1 / 4),
        "error-ratio": (math.nan, math.inf, 0),  # (0, 2): 1 and 0 on the last, no same error; (1, 2): both say 1
    }
    for name, values in expected.items():
        found = pairwise.PAIRWISE[name](FOUR, TRUE)[np.triu_indices(3, 1)]
        assert found == pytest.approx(values, nan_ok=True), name


def test_equitability_of_four_samples_by_hand():
    """Votes 3; 1 and 2; 2 and 1; 1, 1 and 1 of three members."""
    split = (math.log(3) - 2 / 3 * math.log(2)) / math.log(3)
    assert d.vote_equitability(FOUR, 3) == pytest.approx([0, split, split, 1])
    assert d.vote_equitability(FOUR, 10) == pytest.approx([0, split, split, 1])
    assert d.vote_equitability(np.array([[0, 0], [1, 0], [1, 0], [0, 1]]), 2) == pytest.approx(
        [1, entropy([3 / 4, 1 / 4], base=2)]
    )
    with pytest.raises(ValueError, match="needs two members and two classes, not 1 and 3"):
        d.vote_equitability(FOUR[:1], 3)


def test_equitability_against_scipy():
    members, _ = many()
    votes = np.stack([(members == k).sum(0) for k in range(7)])
    assert d.vote_equitability(members, 7) == pytest.approx(entropy(votes, axis=0) / math.log(5))


def test_mutual_information_is_the_generalised_jensen_shannon_divergence():
    p = np.random.default_rng(4).dirichlet(np.full(6, 0.3), (4, 50))
    divergence = rel_entr(p, p.mean(0)).sum(2).mean(0)
    assert divergence.min() > 0.1
    assert d.mutual_information(p) == pytest.approx(divergence)


def test_what_is_not_defined_is_nan_and_does_not_count():
    perfect = np.zeros((2, 10), int)
    assert d.oracle_disagreement(perfect, Y) == 0
    assert all(math.isnan(metric(perfect, Y)) for metric in (d.q_statistic, d.correlation, d.error_ratio))
    # Of three pairs only A with B is defined: the perfect member makes no error.
    assert d.error_ratio(np.stack([A, B, Y]), Y) == pytest.approx(d.error_ratio(PAIR, Y))
    with pytest.raises(ValueError, match="needs two members, not 1"):
        d.label_disagreement(A[None])


def test_the_ratio_of_errors_is_that_of_the_sums_over_pairs():
    """Pairs without a same error are the most diverse, and were left out."""
    third = np.array([0, 0, 0, 1, 0, 0, 0, 1, 2, 0])
    # A with B: 1 different, 2 same; A with the third: 0 and 2 (both wrong on the eighth and the ninth);
    # B with the third: 1 different (the ninth), 1 same (the eighth).
    assert d.error_ratio(np.stack([A, B, third]), Y) == pytest.approx((1 + 0 + 1) / (2 + 2 + 1))
    assert d.error_ratio(FOUR, TRUE) == pytest.approx((0 + 1 + 0) / (0 + 0 + 1))
    # Two pairs of three have different errors and no same one: the ratio of the sums is 3 / 1, not the 1 of the third.
    three = np.array([[1, 1, 0], [1, 2, 0], [2, 0, 0]])
    ratios = pairwise.error_ratio(three, np.zeros(3, int))[np.triu_indices(3, 1)]
    assert ratios.tolist() == [1.0, math.inf, math.inf]
    assert d.error_ratio(three, np.zeros(3, int)) == 3.0
    # Whoever never makes the same error is infinitely diverse by this measure; of no common error nothing is said.
    assert d.error_ratio(np.array([[1, 0], [2, 0]]), np.zeros(2, int)) == math.inf
    assert math.isnan(d.error_ratio(np.array([[1, 0], [0, 2]]), np.zeros(2, int)))


def test_mutual_information_of_probabilities():
    opposite = np.array([[[1.0, 0.0]], [[0.0, 1.0]]])
    assert d.mutual_information(opposite) == pytest.approx([math.log(2)])
    same = np.full((3, 4, 5), 0.2)
    np.testing.assert_allclose(d.mutual_information(same), np.zeros(4), atol=1e-12)
    # Members (.9, .1) and (.5, .5): H(.7, .3) - (H(.9, .1) + H(.5, .5)) / 2 = .610864 - (.325083 + .693147) / 2
    mixed = np.array([[[0.9, 0.1]], [[0.5, 0.5]]])
    assert d.mutual_information(mixed) == pytest.approx([0.101749], abs=1e-6)


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
