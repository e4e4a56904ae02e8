"""ROC measures by hand, and their bootstrap against a plain one."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn.metrics import roc_auc_score, roc_curve

from robustkit.metrics.roc import bootstrap, fpr_at, roc


def test_four_samples_by_hand():
    """Normal 0.9 and 0.4, others 0.5 and 0.1: of four pairs one is in the wrong order."""
    found = roc(np.array([0.9, 0.4]), np.array([0.5, 0.1]))
    assert found.auroc == pytest.approx(0.75)
    assert found.aupr == pytest.approx((1 + 2 / 3) / 2)
    assert found.aupr_other == pytest.approx((1 + 2 / 3) / 2)
    assert found.fpr95 == pytest.approx(0.5)
    assert (found.fpr[0], found.tpr[0], found.fpr[-1], found.tpr[-1]) == (0, 0, 1, 1)


def test_fpr_at_takes_the_first_threshold_that_keeps_enough():
    """Of twenty normal values nineteen must stay: the threshold is the second lowest, which three of five reach."""
    normal = np.arange(20.0)
    assert fpr_at(normal, np.array([-1.0, 0.9, 1.0, 7.0, 30.0]), 0.95) == 0.6
    fpr, tpr, _ = roc_curve(np.arange(40) < 20, np.r_[normal, normal / 2], drop_intermediate=False)
    assert fpr_at(normal, normal / 2, 0.95) == fpr[np.argmax(tpr >= 0.95)]


def test_a_threshold_between_the_corners_of_the_curve_counts():
    """Twenty values that both have: the curve is one straight line, yet a threshold at 95 % there is."""
    assert roc(np.arange(20.0), np.arange(20.0)).fpr95 == pytest.approx(0.95)


def test_ties_count_half():
    assert roc(np.ones(3), np.ones(5)).auroc == 0.5
    assert roc(np.ones(3), np.ones(5)).ci95 == (0.5, 0.5)


def test_bootstrap_against_one_that_sorts_every_resample():
    rng = np.random.default_rng(1)
    normal, others = rng.normal(1, 1, 80).round(1), rng.normal(0, 1, 60).round(1)
    low, high = bootstrap(normal, others, resamples=2000)
    truth = np.r_[np.ones(80), np.zeros(60)]
    areas = [roc_auc_score(truth, np.r_[rng.choice(normal, 80), rng.choice(others, 60)]) for _ in range(800)]
    assert (low, high) == pytest.approx(tuple(np.quantile(areas, [0.025, 0.975])), abs=0.015)
    assert low < roc_auc_score(truth, np.r_[normal, others]) < high


def test_a_long_curve_is_thinned_and_keeps_its_ends():
    rng = np.random.default_rng(0)
    found = roc(rng.normal(0.5, 1, 2000), rng.normal(0, 1, 2000))
    assert len(found.fpr) == len(found.tpr) == 201
    assert found.tpr[-1] == found.fpr[-1] == 1.0


@pytest.mark.parametrize(("normal", "others"), [([], [1.0]), ([1.0], []), ([np.nan], [1.0])])
def test_what_cannot_be_measured_raises(normal: list[float], others: list[float]):
    with pytest.raises(ValueError, match="needs samples of both kinds|not finite"):
        roc(np.array(normal), np.array(others))
