"""What so many images prove, by numbers that are known without any program."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy import stats

from robustkit.auditing import comparing
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
