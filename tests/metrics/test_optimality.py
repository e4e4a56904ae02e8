"""Areas between clean accuracy and the curves of attacks, by hand and by integration of the curves."""

from __future__ import annotations

import numpy as np
import pytest

from robustkit.metrics.optimality import optimality, reach, won

INF = np.inf


def test_shares_of_two_attacks_by_hand():
    distances = np.array([[1.0, 3.0, INF], [2.0, 2.0, INF]])
    drops = np.isfinite(distances).astype(float)
    assert reach(distances, drops) == 2.0  # the nearest are 1 and 2; the third image stands
    assert won(distances, drops, 2.0).tolist() == [[1.0, 0.0, 0.0], [0.0, 0.0, 0.0]]
    assert optimality(distances, drops).tolist() == [1.0, 0.0]


def test_shares_are_those_of_the_integrated_curves():
    draws = np.random.default_rng(0)
    distances = draws.uniform(0.1, 3.0, (3, 40))
    distances[draws.random((3, 40)) < 0.1] = INF
    drops = np.isfinite(distances) * draws.uniform(0.2, 1.0, 40)
    eps = np.linspace(0, reach(distances, drops), 20001)

    def area(distance: np.ndarray, drop: np.ndarray) -> float:
        lost = (drop[:, None] * (distance[:, None] <= eps)).mean(0)
        return float(((lost[1:] + lost[:-1]) / 2 * np.diff(eps)).sum())

    best = area(distances.min(0), drops.max(0))
    expected = [area(*one) / best for one in zip(distances, drops, strict=True)]
    assert optimality(distances, drops) == pytest.approx(expected, rel=1e-3)
    assert optimality(np.vstack([distances, distances.min(0)]), np.vstack([drops, drops.max(0)]))[-1] == 1.0


def test_where_nothing_was_taken_nothing_is_rated():
    nothing = np.full((2, 3), INF)
    assert reach(nothing, np.zeros((2, 3))) == 0.0
    assert np.isnan(optimality(nothing, np.zeros((2, 3)))).all()
