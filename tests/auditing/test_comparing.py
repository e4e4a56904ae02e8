"""What so many images prove, by numbers that are known without any program."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy import stats

from robustkit.auditing import comparing
from robustkit.auditing._findings import of_input
from robustkit.auditing.adapting import Preprocessing
from robustkit.auditing.behaviour import Finding
from robustkit.auditing.trials import Given, Trial
from robustkit.functional.stats import binomial_tail


@pytest.mark.parametrize(
    ("y", "rows"),
    [
        ([0, 1, 0, 2], [0, 1, 2, 3]),  # a half is no majority
        ([0, 0, 1, 0, 0, 1, 0], [0, 1, 2, 5]),  # the first two of five, and the others
        ([3, 3, 3], []),
    ],
)
def test_a_common_label_counts_as_often_as_the_others(y: list[int], rows: list[int]):
    assert comparing.telling(torch.tensor(y)).tolist() == rows


@pytest.mark.parametrize(("k", "n", "p"), [(0, 5, 0.3), (5, 5, 0.5), (17, 20, 0.5), (40, 200, 0.1), (3, 0, 0.5)])
def test_the_tail_is_scipys(k: int, n: int, p: float):
    assert binomial_tail(k, n, p) == pytest.approx(float(stats.binom.sf(k - 1, n, p)), abs=1e-15)


def test_the_paired_test_counts_what_only_one_gets_right():
    first, second = np.array([True] * 9 + [False] * 3), np.array([True] * 2 + [False] * 7 + [True] + [False] * 2)
    assert comparing.better(first, second) == pytest.approx(sum((8, 1)) / 2**8)  # seven of eight
    assert comparing.better(first, first) == 1.0


def test_a_constant_answer_gains_nothing():
    labels = np.array([0] * 50 + [1] * 50)
    assert not comparing.gains(labels == 0, labels)
    assert comparing.gains(np.arange(100) < 70, labels)
    assert not comparing.gains(np.arange(100) < 62, labels, among=24)
    assert not comparing.gains(np.ones(9, dtype=bool), np.zeros(9, dtype=int))


def test_a_renaming_has_to_gain_by_much():
    labels = np.arange(200) % 10
    nothing = np.zeros(200, dtype=bool)
    assert comparing.renames(np.arange(200) < 80, nothing, labels)
    assert not comparing.renames(np.arange(200) < 50, nothing, labels)  # gains over a constant answer, and by a test
    assert not comparing.renames(np.arange(200) < 80, np.arange(200) < 78, labels)


def test_chance_is_where_more_images_could_have_shown_more():
    labels = np.arange(200) % 10
    assert comparing.at_chance(np.arange(200) < 20, labels)
    assert not comparing.at_chance(np.arange(200) < 60, labels)
    assert not comparing.at_chance(np.zeros(2, dtype=bool), labels[:2])
    assert not comparing.at_chance(np.zeros(9, dtype=bool), np.zeros(9, dtype=int))


def answers(name: str, right: float, n: int = 100) -> Trial:
    """Return a trial on n images of a share that is right."""
    found = np.arange(n) < round(right * n)
    return Trial(name, Preprocessing(channels=1), n, right, right, -1.0, tuple(range(10)), right=found, outputs=10)


def normalisation(ranked: list[Trial], candidates: list[Trial]) -> Finding:
    x, y = torch.zeros(100, 1, 8, 8), torch.arange(100) % 10
    return next(f for f in of_input(ranked, candidates, x, y, Given()) if f.what == "normalisation")


@pytest.mark.parametrize(("right", "concern"), [(0.5, True), (0.69, True), (0.71, False), (0.95, False)])
def test_accuracy_proves_a_preprocessing_only_of_a_network_that_learnt_much(right: float, concern: bool):
    # A perceptron trained for an epoch with "half" is right on 37 of 100 images with it, and on 56 with "fashionmnist".
    best = answers("fashionmnist", right)
    found = normalisation([best, answers("half", 0.2)], [best])
    assert (found.value, found.how, found.concern) == ("fashionmnist", "assumed" if concern else "detected", concern)
    assert ("right on so few" in found.evidence) == concern
    assert not normalisation([best], [best]).concern  # the one way that there is


def test_a_candidate_at_chance_that_is_attacked_worst_is_not_called_plain_pixels():
    taken, most = answers("half", 0.1), answers("none", 0.9)
    found = normalisation([taken, most], [most, taken])
    assert (found.value, found.concern) == ("half", True)
    assert "do not refute none (0.900)" in found.evidence
    assert "plain pixels are assumed" not in found.evidence
