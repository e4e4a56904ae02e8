"""Calibration: four samples worked by hand, torchmetrics, scikit-learn, and SciPy's scalar search."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from scipy.optimize import minimize_scalar
from sklearn.metrics import log_loss
from torchmetrics.functional.classification import multiclass_calibration_error

from robustkit.metrics.calibration import (
    COLDEST,
    HOTTEST,
    at_bound,
    brier,
    ece,
    fit_temperature,
    nll,
    reliability,
    tempered,
)

FOUR = np.array([[0.8, 0.1, 0.1], [0.8, 0.1, 0.1], [0.4, 0.5, 0.1], [0.0, 0.0, 1.0]])
Y = np.array([0, 1, 1, 2])


@pytest.fixture
def logits() -> tuple[np.ndarray, np.ndarray]:
    """500 samples of five classes whose labels are drawn from softmax(z), then shown three times too sure."""
    rng = np.random.default_rng(0)
    z = 2 * rng.normal(size=(500, 5))
    p = np.exp(tempered(z, 1.0))
    y = np.array([rng.choice(5, p=row) for row in p])
    return 3 * z, y


def logs(p: np.ndarray) -> np.ndarray:
    with np.errstate(divide="ignore"):
        return np.log(p)


def test_four_samples_by_hand():
    log_p = logs(FOUR)
    assert nll(log_p, Y) == pytest.approx(-(math.log(0.8) + math.log(0.1) + math.log(0.5)) / 4)
    assert brier(log_p, Y) == pytest.approx((0.06 + (0.64 + 0.81 + 0.01) + (0.16 + 0.25 + 0.01) + 0) / 4)
    # In (11/15, 12/15]: two of confidence 0.8, one right. In (7/15, 8/15]: one of 0.5, right. In (14/15, 1]: one of 1.
    found = reliability(log_p, Y)
    assert found.count.tolist() == [0] * 7 + [1] + [0] * 3 + [2] + [0] * 2 + [1]
    assert found.confidence[[7, 11, 14]] == pytest.approx([0.5, 0.8, 1.0])
    assert found.accuracy[[7, 11, 14]] == pytest.approx([1.0, 0.5, 1.0])
    assert np.isnan(found.accuracy[0])
    assert ece(log_p, Y) == found.ece == pytest.approx((abs(2 * 0.5 - 2 * 0.8) + abs(1 - 0.5) + 0) / 4)
    assert ece(log_p, Y, bins=1) == pytest.approx(abs(3 - 3.1) / 4)


def test_a_sample_of_confidence_one_counts():
    """Where it is dropped, the one that is surely wrong leaves an error of 0."""
    log_p = logs(np.array([[1.0, 0.0], [0.9, 0.1]]))
    assert ece(log_p, np.array([1, 0])) == pytest.approx((1.0 + 0.1) / 2)


def test_against_scikit_learn_and_torchmetrics(logits: tuple[np.ndarray, np.ndarray]):
    z, y = logits
    log_p = tempered(z, 1.0)
    p = torch.from_numpy(np.exp(log_p))
    assert nll(log_p, y) == pytest.approx(log_loss(y, p.numpy()))
    theirs = multiclass_calibration_error(p, torch.from_numpy(y), num_classes=5, n_bins=15, norm="l1")
    assert ece(log_p, y) == pytest.approx(float(theirs), abs=1e-6)
    # torchmetrics has no multi-class Brier score: it is the squared error of the probabilities, summed over classes.
    from torchmetrics.functional import mean_squared_error

    hot = torch.nn.functional.one_hot(torch.from_numpy(y), 5).double()
    assert brier(log_p, y) == pytest.approx(5 * float(mean_squared_error(p.flatten(), hot.flatten())), abs=1e-6)


def test_the_temperature_is_that_of_a_scalar_search(logits: tuple[np.ndarray, np.ndarray]):
    z, y = logits
    theirs = minimize_scalar(
        lambda t: nll(tempered(z, t), y), bounds=(0.05, 20), method="bounded", options={"xatol": 1e-8}
    )
    mine = fit_temperature(z, y)
    assert mine == pytest.approx(theirs.x, rel=1e-4)
    assert mine == pytest.approx(3, rel=0.15)  # the labels were drawn from softmax(z / 3)
    assert not at_bound(mine)
    assert fit_temperature(10 * z, y) == pytest.approx(10 * mine, rel=1e-4)
    assert fit_temperature(z / 30, y) == pytest.approx(mine / 30, rel=1e-4)
    assert fit_temperature(tempered(z, 1.0), y) == pytest.approx(mine, rel=1e-6)  # a constant per row changes nothing


def test_a_temperature_of_four_samples_by_hand():
    """Two classes, logits (1, 0), right three times in four: softmax is 3/4 where 1 / T = log 3."""
    z = np.tile([1.0, 0.0], (4, 1))
    y = np.array([0, 0, 0, 1])
    assert fit_temperature(z, y) == pytest.approx(1 / math.log(3), rel=1e-6)
    assert ece(tempered(z, fit_temperature(z, y)), y) == pytest.approx(0, abs=1e-6)


def test_samples_that_tell_no_temperature_reach_a_bound():
    z = np.tile([1.0, 0.0], (4, 1))
    right, wrong = (fit_temperature(z, np.full(4, label)) for label in (0, 1))
    assert (right, wrong) == pytest.approx((COLDEST, HOTTEST))
    assert at_bound(right)
    assert at_bound(wrong)


def test_a_temperature_needs_finite_logits():
    for z in (np.zeros((0, 3)), np.array([[np.nan, 0.0]])):
        with pytest.raises(ValueError, match="needs finite logits"):
            fit_temperature(z, np.zeros(len(z), np.int64))


def test_a_perfect_and_sure_model_is_calibrated():
    log_p = np.log(np.array([[1 - 2e-16, 1e-16, 1e-16]] * 4))
    y = np.zeros(4, np.int64)
    assert (nll(log_p, y), brier(log_p, y), ece(log_p, y)) == pytest.approx((0, 0, 0), abs=1e-12)
