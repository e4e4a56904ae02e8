"""Cosines and variance of attribution maps against numbers worked by hand and SciPy."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.spatial.distance import cosine

from robustkit.metrics.maps import map_variance, pair_cosines


def test_four_samples_by_hand():
    one = np.array([[[3.0, 4]], [[1, 0]], [[0, 0]], [[1, 1]]])  # (N, 1, 2)
    other = np.array([[[6.0, 8]], [[0, 2]], [[1, 0]], [[-1, -1]]])
    maps = np.stack([one, other])
    assert pair_cosines(maps)[:, 0] == pytest.approx([1, 0, np.nan, -1], nan_ok=True)
    assert map_variance(maps) == pytest.approx([1.5**2 + 2**2, 0.25 + 1, 0.25, 1 + 1])
    assert map_variance(maps, normalised=True) == pytest.approx([0, 0.5, 0.25, 1])


def test_three_members_against_scipy_and_numpy():
    maps = np.random.default_rng(0).normal(size=(3, 6, 2, 4, 4)).astype(np.float32)
    found = pair_cosines(maps)
    assert found.shape == (6, 3)
    for column, (i, j) in enumerate([(0, 1), (0, 2), (1, 2)]):
        expected = [1 - cosine(maps[i, n].ravel().astype(float), maps[j, n].ravel().astype(float)) for n in range(6)]
        assert found[:, column] == pytest.approx(expected)
    assert map_variance(maps) == pytest.approx(np.var(maps, axis=0).sum((1, 2, 3)), rel=1e-5)
    assert map_variance(5 * maps, normalised=True) == pytest.approx(map_variance(maps, normalised=True))
    assert map_variance(5 * maps) == pytest.approx(25 * map_variance(maps), rel=1e-5)


def test_one_member_has_no_pairs_and_no_variance():
    maps = np.ones((1, 3, 4))
    assert pair_cosines(maps).shape == (3, 0)
    assert map_variance(maps) == pytest.approx([0, 0, 0])


def test_a_map_without_a_direction_is_compared_with_none_whichever_it_is():
    maps = np.array([[[0.0, 0]], [[1, 2]], [[0, 0]]])
    assert np.isnan(pair_cosines(maps)).all()
    assert pair_cosines(maps[[1, 1, 0]])[0] == pytest.approx([1, np.nan, np.nan], nan_ok=True)
