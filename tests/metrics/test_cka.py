"""Linear CKA against the formula of the unbiased HSIC written out, and against what it must not see."""

from __future__ import annotations

import itertools

import numpy as np
import pytest

from robustkit.metrics.cka import batches, cka, gram, hsic, linear_cka


def features(*widths: int, n: int = 30) -> list[np.ndarray]:
    rng = np.random.default_rng(7)
    common = rng.normal(size=(n, 3))
    return [
        np.hstack([common @ rng.normal(size=(3, w)), rng.normal(size=(n, w))]) + rng.normal(size=2 * w) for w in widths
    ]


def hsic_as_sums(a: np.ndarray, b: np.ndarray) -> float:
    """The U-statistic itself: means of products over ordered tuples of two, three and four different samples."""
    k, other, n = a @ a.T, b @ b.T, len(a)
    two = np.mean([k[i, j] * other[i, j] for i, j in itertools.permutations(range(n), 2)])
    three = np.mean([k[i, j] * other[i, q] for i, j, q in itertools.permutations(range(n), 3)])
    four = np.mean([k[i, j] * other[q, r] for i, j, q, r in itertools.permutations(range(n), 4)])
    return float(two - 2 * three + four)


def test_hsic_is_the_mean_over_tuples_of_different_samples():
    a, b = features(2, 3, n=8)
    expected = [[hsic_as_sums(p, q) for q in (a, b)] for p in (a, b)]
    np.testing.assert_allclose(hsic(np.stack([gram(a), gram(b)])), expected, rtol=1e-9)


def test_hsic_of_four_samples_by_hand():
    """Of 0, 1, 0, 1 and of 0, 0, 0, 1: off the diagonal k_ij = 1 for (2, 4), l_ij = 0; so HSIC of l with itself is 0.

    Of k with itself: tr(KK) = 2, 1'K1 = 2, 1'KK1 = 2: (2 + 4 / 6 - 2) / 4 = 1 / 6. Of k and l: 0.
    """
    a, b = np.array([[0.0], [1], [0], [1]]), np.array([[0.0], [0], [0], [1]])
    grams = np.stack([a @ a.T, b @ b.T])
    np.testing.assert_allclose(hsic(grams), [[1 / 6, 0], [0, 0]], atol=1e-15)
    assert np.isnan(cka(hsic(grams))[1, 1])
    with pytest.raises(ValueError, match="unbiased HSIC needs 4 samples, not 3"):
        hsic(grams[:, :3, :3])


def test_one_batch_is_the_plain_cka_and_a_layer_beside_itself_is_1():
    layers = features(4, 9, 30)
    found = cka(hsic(np.stack([gram(a) for a in layers])))
    for i, j in itertools.product(range(3), repeat=2):
        assert found[i, j] == pytest.approx(linear_cka(layers[i], layers[j]))
        assert (found[i, j] == pytest.approx(1.0)) == (i == j)


def test_over_batches_the_sums_are_divided_not_the_quotients_averaged():
    layers = features(4, 9, n=40)
    parts = batches(40, 16)
    assert [(p.start, p.stop) for p in parts] == [(0, 13), (13, 27), (27, 40)]
    found = cka(sum(hsic(np.stack([gram(a[p]) for a in layers])) for p in parts))[0, 1]
    sums = np.zeros((2, 2))
    for p in parts:
        sums += [[estimate(a[p], b[p]) for b in layers] for a in layers]
    assert found == pytest.approx(sums[0, 1] / np.sqrt(sums[0, 0] * sums[1, 1]), rel=1e-9)
    averaged = np.mean([linear_cka(layers[0][p], layers[1][p]) for p in parts])
    assert abs(found - averaged) > 1e-4


def estimate(a: np.ndarray, b: np.ndarray) -> float:
    """Song et al. 2012, eq. 5, with matrices of ones, as printed."""
    n = len(a)
    ones = np.ones((n, 1))
    k, other = a @ a.T * (1 - np.eye(n)), b @ b.T * (1 - np.eye(n))
    middle = (ones.T @ k @ ones) * (ones.T @ other @ ones) / ((n - 1) * (n - 2))
    return float((np.trace(k @ other) + middle - 2 / (n - 2) * ones.T @ k @ other @ ones).item() / (n * (n - 3)))


def test_even_batches_none_too_small():
    assert batches(3, 128) == []
    assert [(p.start, p.stop) for p in batches(9, 8)] == [(0, 4), (4, 9)]
    assert [p.stop - p.start for p in batches(500, 128)] == [125] * 4
    for n in range(4, 60):
        sizes = [p.stop - p.start for p in batches(n, 7)]
        assert sum(sizes) == n
        assert min(sizes) >= 4


def test_cka_sees_through_rotation_and_scale_and_nothing_else():
    rng = np.random.default_rng(1)
    a, b = rng.normal(size=(300, 8)), rng.normal(size=(300, 20))
    rotation = np.linalg.qr(rng.normal(size=(8, 8)))[0]
    assert linear_cka(a, 3 * a @ rotation + 5) == pytest.approx(1.0)
    assert abs(linear_cka(a, b)) < 0.03
    half = np.hstack([a, rng.normal(size=(300, 8))])
    assert 0.55 < linear_cka(a, half) < 0.85  # half of the variance is a's: 1 / sqrt(2)


def test_layers_of_small_features_are_compared_as_those_of_large_ones():
    hsics = hsic(np.stack([gram(a) for a in features(3, 4)]))
    np.testing.assert_allclose(cka(1e-9 * hsics), cka(hsics))
    assert np.isnan(cka(np.zeros((2, 2)))).all()
