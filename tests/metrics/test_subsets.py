"""Subsets of a pool, against the functions that score one ensemble, and a pool of four samples worked by hand."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
import torch
from scipy.stats import entropy, pearsonr, spearmanr
from torch import Tensor

from robustkit.ensembles import fusion
from robustkit.metrics import diversity as d
from robustkit.metrics import subsets as s

FUSIONS = {
    name: rule for name, rule in fusion.FUSIONS.items() if name not in ("crossmax", "random")
}  # nothing for two or three members


def pool(members: int = 5, n: int = 60, classes: int = 4, scale: float = 2.0) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(members * 100 + classes)
    y = rng.integers(0, classes, n)
    logits = rng.normal(size=(members, n, classes)) * scale
    logits[:, np.arange(n), y] += 1.0
    return logits.astype(np.float32), y


def softmax(z: np.ndarray) -> np.ndarray:
    return torch.from_numpy(z).double().softmax(-1).numpy()


def plain_equitability(predictions: np.ndarray, classes: int) -> float:
    each = [entropy(np.unique(votes, return_counts=True)[1]) for votes in predictions.T]
    return float(np.mean(each)) / math.log(min(len(predictions), classes))


@pytest.mark.parametrize(("size", "classes", "elements"), [(2, 4, 2**17), (3, 4, 50), (4, 3, 1), (5, 7, 100)])
def test_each_subset_is_scored_as_if_it_were_alone(
    size: int, classes: int, elements: int, monkeypatch: pytest.MonkeyPatch
):
    """Whatever the blocks: one block, several that do not divide the samples, one sample at a time."""
    monkeypatch.setattr(s, "ELEMENTS", elements)
    logits, y = pool(classes=classes)
    chosen = s.choose(5, size, 1000)
    seen: list[int] = []
    scored = s.score(logits, y, chosen, seen.append)
    assert sum(seen) == len(y)
    assert set(scored.accuracy) == set(FUSIONS) == set(s.RULES)
    for at, subset in enumerate(itertools.combinations(range(5), size)):
        own = logits[list(subset)]
        labels, p = own.argmax(2), softmax(own)
        for rule, fused in FUSIONS.items():
            right = fused(torch.from_numpy(own)).argmax(1).numpy() == y
            assert scored.accuracy[rule][at] == right.mean(), (rule, subset)
        expected = {
            "oracle_disagreement": d.oracle_disagreement(labels, y),
            "label_disagreement": d.label_disagreement(labels),
            "q_statistic": d.q_statistic(labels, y),
            "rho": d.correlation(labels, y),
            "double_fault": d.double_fault(labels, y),
            "error_ratio": d.error_ratio(labels, y),
            "label_mutual_information": d.label_mutual_information(labels),
            "mutual_information": d.mutual_information(p).mean(),
            "equitability": plain_equitability(labels, classes),
            "ensemble_diversity": d.ensemble_diversity(own, y).mean(),
            "member_accuracy": (labels == y).mean(),
        }
        assert {name: values[at] for name, values in scored.measures.items()} == pytest.approx(expected, abs=1e-12)
        best = max((labels == y).mean(1))
        assert scored.gain("median")[at] == scored.accuracy["median"][at] - best


# Three members, four samples, two classes; the true label is 0 throughout. Probabilities of label 0:
#            sample 0   1     2     3       accuracy
# member 0      .9     .9    .9    .1       3/4
# member 1      .9     .2    .2    .6       2/4
# member 2      .9     .4    .4    .6       2/4
# mean          .9     .5   .5     .433     (samples 1 and 2 are ties of the mean)
HAND = np.array([[0.9, 0.9, 0.9, 0.1], [0.9, 0.2, 0.2, 0.6], [0.9, 0.4, 0.4, 0.6]])
HAND_LOGITS = np.log(np.stack([HAND, 1 - HAND], 2))
ZEROS = np.zeros(4, int)


def test_four_samples_by_hand():
    scored = s.score(HAND_LOGITS, ZEROS, np.array([[0, 1, 2], [1, 2, 0]]))
    assert scored.member_accuracy.tolist() == [0.75, 0.5, 0.5]
    # Votes for label 0: 3, 1, 1, 2. Medians: .9, .4, .4, .6. Log odds of samples 1, 2: log 9 - log 4 - log 1.5 > 0;
    # of sample 3: -log 9 + 2 log 1.5 < 0.
    assert scored.accuracy["majority"].tolist() == [0.5, 0.5]
    assert scored.accuracy["median"].tolist() == [0.5, 0.5]
    assert scored.accuracy["mean-logit"].tolist() == scored.accuracy["geometric-mean"].tolist() == [0.75, 0.75]
    assert scored.gain("majority").tolist() == [-0.25, -0.25]
    # Pairs: 0 and 1, 0 and 2 differ on samples 1, 2, 3; 1 and 2 on none.
    assert scored.measures["oracle_disagreement"] == pytest.approx([(3 + 3 + 0) / 12] * 2)
    # Both wrong: 1 and 2 on samples 1 and 2.
    assert scored.measures["double_fault"] == pytest.approx([2 / 12] * 2)
    # Two of three agree on three samples: (log 3 - 2/3 log 2) / log 2 each, 0 on the first.
    split = (math.log(3) - 2 / 3 * math.log(2)) / math.log(2)
    assert scored.measures["equitability"] == pytest.approx([0.75 * split] * 2)
    assert scored.measures["ensemble_diversity"].tolist() == [0.0, 0.0]  # three members, one other class
    assert scored.measures["member_accuracy"] == pytest.approx([7 / 12] * 2)


def test_ties_are_broken_as_fusion_breaks_them():
    """One vote each: the summed probability decides; where that is equal, too, the lower label wins."""
    p = np.array([[[0.6, 0.4, 0.0]], [[0.1, 0.9, 0.0]]]) + 1e-9
    equal = np.array([[[1.0, 0.0, 0.0]], [[0.0, 1.0, 0.0]], [[0.0, 0.0, 1.0]]]) * 30
    for logits, winner in ((np.log(p), 1), (equal, 0), (equal[::-1], 0), (equal[1:], 1)):
        every = np.arange(len(logits))[None]
        fused = {rule: int(fuse(Tensor(np.array(logits))).argmax()) for rule, fuse in FUSIONS.items()}
        assert fused["majority"] == fused["mean-prob"] == winner
        for label in range(3):
            accuracy = s.score(np.array(logits), np.array([label]), every).accuracy
            assert {rule: accuracy[rule][0] for rule in FUSIONS} == {rule: label == fused[rule] for rule in FUSIONS}


def test_many_members_vote():
    """More votes than a byte counts."""
    logits, y = pool(members=300, n=5)
    scored = s.score(logits, y, np.arange(300)[None])
    labels = logits.argmax(2)
    for rule in ("majority", "median"):
        assert scored.accuracy[rule][0] == (FUSIONS[rule](torch.from_numpy(logits)).argmax(1).numpy() == y).mean()
    assert scored.measures["equitability"][0] == pytest.approx(plain_equitability(labels, 4))


def test_a_certain_pool_is_scored_without_rounding_to_nan():
    """Logits of 1e4: probabilities are 0 and 1, entropies 0, and the mutual information of two that differ log 2."""
    logits = np.array([[[1e4, 0.0, 0.0]], [[0.0, 1e4, 0.0]]])
    scored = s.score(logits, np.array([2]), np.array([[0, 1]]))
    assert scored.measures["mutual_information"] == pytest.approx([math.log(2)])
    assert math.isnan(scored.measures["q_statistic"][0])
    assert all(accuracy[0] == 0 for accuracy in scored.accuracy.values())


def test_all_subsets_or_a_seeded_draw():
    assert s.choose(4, 2, 6).tolist() == [[0, 1], [0, 2], [0, 3], [1, 2], [1, 3], [2, 3]]
    assert len(s.choose(14, 3, 2000)) == 364
    drawn = s.choose(40, 5, 50, seed=1)
    assert drawn.shape == (50, 5)
    assert len({tuple(row) for row in drawn.tolist()}) == 50
    assert (np.diff(drawn, axis=1) > 0).all()
    assert drawn.max() < 40
    assert drawn.tolist() == s.choose(40, 5, 50, seed=1).tolist() != s.choose(40, 5, 50, seed=2).tolist()
    for size in (1, 5):
        with pytest.raises(ValueError, match=f"subsets of {size} of 4 members"):
            s.choose(4, size, 10)


def test_attribution_variance_is_that_of_the_maps():
    maps = np.abs(np.random.default_rng(0).normal(size=(4, 6, 3 * 5 * 5)))
    maps[2, 3] = 0.0  # a member that no pixel moves
    gram = np.einsum("mnp,knp->nmk", maps, maps)
    chosen = s.choose(4, 3, 10)
    length = np.linalg.norm(maps, axis=2, keepdims=True)
    unit = np.divide(maps, length, out=np.zeros_like(maps), where=length > 0)
    for normalised, of in ((False, maps), (True, unit)):
        expected = [of[list(subset)].var(0).sum(1).mean() for subset in chosen]
        assert s.attribution_variance(gram, chosen, normalised=normalised) == pytest.approx(expected)
    same = np.einsum("mnp,knp->nmk", maps[[0, 0]], 2 * maps[[0, 0]])
    assert s.attribution_variance(same, np.array([[0, 1]]), normalised=True) == pytest.approx([0.0], abs=1e-12)


def test_correlations_against_scipy():
    rng = np.random.default_rng(0)
    gain = rng.integers(-5, 5, 40) / 100  # with ties
    measure = gain + rng.normal(size=40) / 20
    pearson, spearman, count = s.correlations(gain, measure)
    assert pearson == pytest.approx(pearsonr(gain, measure).statistic)
    assert spearman == pytest.approx(spearmanr(gain, measure).statistic)
    assert count == 40
    holes = np.where(np.arange(40) % 2, measure, np.nan)
    assert s.correlations(gain, holes) == pytest.approx(s.correlations(gain[1::2], measure[1::2]))
    assert s.correlations(gain, holes)[2] == 20
    assert s.correlations(gain, np.full(40, 0.1))[2] == 40
    assert all(math.isnan(value) for value in s.correlations(gain, np.full(40, 0.1))[:2])
    assert all(math.isnan(value) for value in s.correlations(gain[:2], measure[:2])[:2])
    assert s.correlations(np.array([0.1, 0.2, 0.3]), np.array([1.0, 3, 2]))[:2] == pytest.approx((0.5, 0.5))
