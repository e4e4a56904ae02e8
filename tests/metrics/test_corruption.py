"""Corruption metrics, worked by hand and against scikit-learn."""

from __future__ import annotations

import math

import numpy as np
import pytest
from sklearn.metrics import log_loss

from robustkit import corruptions
from robustkit.metrics.corruption import ALEXNET, ALEXNET_CLEAN, brier, ece, mce, nll, relative_mce


def test_mce_is_the_mean_of_ratios():
    errors, reference = {"fog": 0.2, "snow": 0.3}, {"fog": 0.4, "snow": 0.9, "frost": 0.5}
    assert mce(errors, reference) == pytest.approx(100 * (0.5 + 1 / 3) / 2)
    assert relative_mce(errors, 0.1, reference, 0.3) == pytest.approx(100 * (0.1 / 0.1 + 0.2 / 0.6) / 2)
    assert math.isnan(mce(errors, {"fog": 0.0, "snow": 0.5}))
    assert math.isnan(relative_mce(errors, 0.1, reference, 0.4))  # fog does not hurt the reference


def test_alexnet_against_itself_and_resnet_50():
    fifteen = {name: ALEXNET[name] for name in corruptions.FIFTEEN}
    assert mce(fifteen, ALEXNET) == pytest.approx(100)
    assert relative_mce(fifteen, ALEXNET_CLEAN, ALEXNET, ALEXNET_CLEAN) == pytest.approx(100)
    # CE of ResNet-50, table 1 of Hendrycks and Dietterich 2019, rounded there to whole percent; mCE 76.7.
    table = (80, 82, 83, 75, 89, 78, 80, 78, 75, 66, 57, 71, 85, 77, 77)
    errors = {name: ce / 100 * ALEXNET[name] for name, ce in zip(corruptions.FIFTEEN, table, strict=True)}
    assert mce(errors, ALEXNET) == pytest.approx(76.7, abs=0.5)
    assert set(ALEXNET) == {*corruptions.FIFTEEN, *corruptions.EXTRA}


def test_calibration_worked_by_hand():
    p = np.array([[0.8, 0.1, 0.1], [0.8, 0.1, 0.1], [0.4, 0.5, 0.1]])
    y = np.array([0, 1, 1])
    assert nll(np.log(p), y) == pytest.approx(log_loss(y, p, labels=[0, 1, 2]))
    assert brier(np.log(p), y) == pytest.approx((0.04 + 0.01 + 0.01 + 0.64 + 0.81 + 0.01 + 0.16 + 0.25 + 0.01) / 3)
    # Two of confidence 0.8 of which one is right, one of 0.5 that is: (|1 - 1.6| + |1 - 0.5|) / 3.
    assert ece(np.log(p), y) == pytest.approx((0.6 + 0.5) / 3)
    assert ece(np.log(p), y, bins=1) == pytest.approx(abs(2 - 2.1) / 3)


def test_a_perfect_and_sure_model_is_calibrated():
    log_p = np.log(np.array([[1 - 2e-16, 1e-16, 1e-16]] * 4))
    y = np.zeros(4, np.int64)
    assert (nll(log_p, y), brier(log_p, y), ece(log_p, y)) == pytest.approx((0, 0, 0), abs=1e-12)
