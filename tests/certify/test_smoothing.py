from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy.stats import binomtest

from robustkit.base.errors import UserError
from robustkit.certify.smoothing import ABSTAINED, lower_bound, smooth


def linear(x: torch.Tensor) -> torch.Tensor:
    """Two classes, told apart by the mean of the first row of pixels: the boundary is at 0.5."""
    margin = x[:, 0, 0].mean(-1) - 0.5
    return torch.stack([margin, -margin], -1)


def images(means: torch.Tensor) -> torch.Tensor:
    x = torch.full((len(means), 1, 4, 4), 0.5)
    x[:, 0, 0] = means[:, None]
    return x


def test_radii_of_a_linear_classifier_are_within_their_confidence():
    """Its smoothed radius is the distance to the boundary, whatever sigma; the certified one is below it and near."""
    means = torch.linspace(0.2, 0.8, 60)
    distance = (means - 0.5).abs() * 2  # |w x + b| / |w|: w has four entries of 1/4
    found = smooth(linear, images(means), torch.arange(60), sigma=0.4, draws=4000)
    sure = found.answer != ABSTAINED
    right = (means < 0.5).long().numpy()
    assert (found.answer == right)[sure].all()
    assert (found.radius <= distance.numpy() + 1e-6).sum() >= 59  # each fails with 0.001
    assert (distance.numpy() - found.radius)[sure].max() < 0.12
    assert (~sure).any()  # beside the boundary it abstains
    assert (found.radius[~sure] == 0).all()
    assert not sure[(distance < 0.005).numpy()].any()


def test_the_bound_is_that_of_clopper_and_pearson():
    for hits in (0, 1, 37, 99, 100):
        whole = binomtest(hits, 100).proportion_ci(0.998, "exact").low  # two-sided, of which 0.001 is below
        assert lower_bound(np.array([hits]), 100, 0.001)[0] == pytest.approx(whole, abs=1e-9)
    assert lower_bound(np.array([1000]), 1000, 0.001)[0] == pytest.approx(0.001 ** (1 / 1000))


def test_no_answer_depends_on_the_batch():
    x, ids = images(torch.linspace(0.4, 0.6, 12)), torch.arange(100, 112)
    whole = smooth(linear, x, ids, sigma=0.2, draws=200, batch_size=64)
    parts = [smooth(linear, x[at : at + 5], ids[at : at + 5], sigma=0.2, draws=200, batch_size=7) for at in (0, 5, 10)]
    np.testing.assert_array_equal(whole.radius, np.concatenate([part.radius for part in parts]))
    np.testing.assert_array_equal(whole.answer, np.concatenate([part.answer for part in parts]))
    other = smooth(linear, x, ids, sigma=0.2, draws=200, seed=1)
    assert (other.radius != whole.radius).any()


@pytest.mark.parametrize("sigma", [0.0, -0.1, float("nan")])
def test_no_noise_is_refused(sigma: float):
    with pytest.raises(UserError, match="sigma .* is out of range; the noise of smoothing must be above 0"):
        smooth(linear, images(torch.tensor([0.3])), torch.arange(1), sigma=sigma, draws=10)
