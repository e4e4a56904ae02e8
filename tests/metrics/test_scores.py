"""Scores of normality, by hand on four samples and against torch."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy.stats import entropy as scipy_entropy

from robustkit.defenses._terms import log_ensemble_diversity as trained_log_ed
from robustkit.ensembles.fusion import mean_prob
from robustkit.metrics import diversity
from robustkit.metrics.scores import NEEDS_MEMBERS, SCORES, scores

# Two members, four samples, three classes.
P = np.array([
    [[0.8, 0.1, 0.1], [0.5, 0.5 - 1e-9, 1e-9], [0.2, 0.6, 0.2], [0.3, 0.3, 0.4]],
    [[0.6, 0.3, 0.1], [0.5, 1e-9, 0.5 - 1e-9], [0.6, 0.2, 0.2], [0.3, 0.3, 0.4]],
])  # fmt: skip
SHIFT = np.array([[[0.0], [1.0], [2.0], [3.0]], [[0.0], [-1.0], [0.5], [1.0]]])
Z = np.log(P) + SHIFT
FUSED = np.log(P.mean(0))
MEAN = P.mean(0)


def test_by_hand():
    assert SCORES["msp"](Z, FUSED) == pytest.approx([0.7, 0.5, 0.4, 0.4])
    assert SCORES["mal"](Z, FUSED)[[0, 3]] == pytest.approx([np.log(0.48) / 2, np.log(0.4) + 2])
    assert SCORES["min-max-logit"](Z, FUSED) == pytest.approx(
        [np.log(0.6), np.log(0.5) - 1, np.log(0.6) + 0.5, np.log(0.4) + 1]
    )
    assert SCORES["agreement"](Z, FUSED) == pytest.approx([1.0, 1.0, 0.5, 1.0])  # a tie goes to the first class
    assert SCORES["energy"](Z, FUSED)[3] == pytest.approx(2.0)
    # Sample 1: without class 0 the members are orthogonal; sample 3: they are equal.
    assert SCORES["log-ed"](Z, FUSED)[[1, 3]] == pytest.approx([0.0, np.log(1e-6 * (2 + 1e-6))], abs=1e-5)


def test_entropy_and_information_against_scipy():
    assert -SCORES["entropy"](Z, FUSED) == pytest.approx(scipy_entropy(MEAN, axis=1))
    members = np.mean([scipy_entropy(p, axis=1) for p in P], 0)
    assert -SCORES["mutual-information"](Z, FUSED) == pytest.approx(scipy_entropy(MEAN, axis=1) - members)


def test_log_ed_is_what_training_computes():
    z = torch.randn(3, 20, 6, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    y = torch.arange(20) % 6
    ours = diversity.log_ensemble_diversity(z.numpy(), y.numpy())
    assert ours == pytest.approx(trained_log_ed(z.softmax(2), y).numpy(), abs=1e-9)
    assert np.log(diversity.ensemble_diversity(z.numpy(), y.numpy())) == pytest.approx(ours, abs=1e-2)


def test_diversity_is_zero_with_more_members_than_other_classes():
    z = np.random.default_rng(0).normal(size=(4, 5, 4))
    assert (diversity.ensemble_diversity(z, np.zeros(5, np.int64)) == 0).all()


def test_scores_are_higher_where_an_image_is_normal():
    """Sure and unanimous members against unsure and divided ones: every score but log ED must see it."""
    z = torch.tensor([[[9.0, 0, 0], [0.1, 0, 0]], [[9.0, 0, 0], [0, 0.1, 0]]], dtype=torch.float64)
    fused = mean_prob(z).numpy()
    for name, score in SCORES.items():
        values = score(z.numpy(), fused)
        assert values.shape == (2,)
        if name != "log-ed":
            assert values[0] > values[1], name


def test_one_member_has_the_scores_that_need_no_others():
    assert set(SCORES) - set(scores(1)) == set(NEEDS_MEMBERS)
    assert set(scores(2)) == set(SCORES)
