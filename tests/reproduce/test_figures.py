"""What the figures are made of, on small real arrays with known answers."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from sklearn.neighbors import KNeighborsClassifier

from robustkit.base.errors import UserError
from robustkit.ensembles.ensemble import Ensemble, Member
from robustkit.metrics.diversity import log_ensemble_diversity
from robustkit.records.schema import Transfer
from robustkit.reproduce import adp_figure2, adp_figure3, adp_figure4, adp_figure5, sdde_table1


def test_the_ensembles_row_and_column_and_the_diagonal_do_not_count():
    matrix = [[0.9, 0.1, 0.2, 0.7], [0.3, 0.9, 0.4, 0.7], [0.5, 0.6, 0.9, 0.7], [0.8, 0.8, 0.8, 0.8]]
    t = Transfer(ensemble="e", attack="pgd", params={}, targeted=False, metric="accuracy", sources=[], targets=[],
                 matrix=matrix)  # fmt: skip
    assert adp_figure3.off_diagonal(t) == pytest.approx((0.1 + 0.2 + 0.3 + 0.4 + 0.5 + 0.6) / 6)


def test_hidden_features_give_the_logits_through_the_last_layer(trained: Ensemble, test_images):
    x, _ = test_images
    found = adp_figure2.hidden_features(trained, x, batch_size=64)
    with torch.no_grad():
        logits = trained.member_logits(x)
    for at, (member, features) in enumerate(zip(trained.members, found, strict=True)):
        assert features.shape == (200, 64)
        last = member.network.linear
        torch.testing.assert_close(last(torch.from_numpy(features)), logits[at], atol=1e-4, rtol=1e-4)
        assert not last._forward_pre_hooks
    with pytest.raises(UserError, match="member 0 has no linear layer"):
        adp_figure2.hidden_features(Ensemble([Member(torch.nn.Conv2d(1, 2, 3))]), x)


def test_the_map_keeps_classes_together_and_is_repeatable(trained: Ensemble, test_images):
    x, y = test_images
    features = adp_figure2.hidden_features(trained, x)[0]
    points = adp_figure2.embedded(features, 0)
    assert points.shape == (200, 2)
    nearest = KNeighborsClassifier(5).fit(points[:100], y[:100]).score(points[100:], y[100:])
    assert nearest > 0.85  # guessing is 0.1
    np.testing.assert_array_equal(points, adp_figure2.embedded(features, 0))
    figure = adp_figure2.scatter({"plain": [points, points], "ADP": [points]}, y.numpy(), tuple("0123456789"))
    assert [len(axes.collections) for axes in figure.axes] == [10, 10, 10, 0]


def test_log_ed_of_hand_made_predictions():
    # Classes 0..3, true class 0. First image: orthogonal wrong answers, ED = 1. Second: equal ones, ED = 0 (+ 2e-6).
    # Third: wrong answers (1, 1, 0) / sqrt 2 and (1, 0, 0): ED = 1 - 1/2.
    p = np.array(
        [
            [[0.7, 0.3, 0, 0], [0.7, 0.3, 0, 0], [0.6, 0.2, 0.2, 0]],
            [[0.7, 0, 0.3, 0], [0.4, 0.6, 0, 0], [0.5, 0.5, 0, 0]],
        ]
    )
    values = log_ensemble_diversity(np.log(p + 1e-30), np.zeros(3, np.int64))
    assert values == pytest.approx([0.0, math.log(2e-6), math.log(0.5)], abs=1e-4)


def test_log_ed_of_very_confident_members_is_that_of_their_wrong_answers():
    """The wrong classes share 1e-7: in float32 a softmax would still see them, their squares hardly."""
    z = np.array([[[20.0, 3.0, -20.0]], [[20.0, -20.0, 3.0]]], np.float32)
    assert log_ensemble_diversity(z, np.zeros(1, np.int64)) == pytest.approx([0.0], abs=1e-3)


def test_roc_by_hand():
    # Normal scores 3, 2, 1; adversarial 2.5, 0: of six pairs, normal is higher in four (3 > both, 2 > 0, 1 > 0).
    area, (false, true) = adp_figure4.roc(np.array([3.0, 2.0, 1.0]), np.array([2.5, 0.0]))
    assert area == pytest.approx(4 / 6)
    assert (false[0], true[0], false[-1], true[-1]) == (0, 0, 1, 1)
    figure = adp_figure4.draw({"one": {"PGD": (false, true)}, "two": {}})
    assert [len(axes.lines) for axes in figure.axes] == [2, 1]


def test_the_histogram_counts_every_image():
    values = {"a": np.linspace(-5, -1, 50), "b": np.linspace(-3, 0, 70)}
    axes = adp_figure5.histogram(values).axes[0]
    assert sum(patch.get_height() for patch in axes.patches) == 120
    assert [text.get_text() for text in axes.get_legend().get_texts()] == ["a, median -3.00", "b, median -1.50"]
    adp_figure5.histogram({"constant": np.zeros(4)})  # one value has no range, and is drawn all the same


def test_the_sdde_metrics_of_real_members(trained: Ensemble, test_images):
    x, y = test_images
    with torch.no_grad():
        logits = trained.member_logits(x)
        fused = trained(x).argmax(1).numpy()
    members = logits.argmax(2).numpy()
    values = sdde_table1.measures(members, fused, y.numpy())
    assert list(values) == list(sdde_table1.UNITS)
    assert values["mean error"] == pytest.approx(100 * (1 - (logits.argmax(2) == y).float().mean().item()))
    assert values["ensemble error"] == pytest.approx(100 * (fused != y.numpy()).mean())
    pairs = [(0, 1), (0, 2), (1, 2)]
    expected = np.mean([(members[i] != members[j]).mean() for i, j in pairs])
    assert values["disagreement"] == pytest.approx(100 * expected)
    assert 1.5 < values["MI"] <= math.log(10)
