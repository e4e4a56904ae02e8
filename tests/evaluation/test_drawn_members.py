"""Members that are drawn, from attack to number: expected accuracy is exact, and only an accuracy of 0 is a success."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from robustkit.data import Dataset, Split
from robustkit.ensembles.ensemble import Ensemble
from robustkit.evaluation.cell import RunOptions, broken, run_cell
from robustkit.pipeline.results import build
from robustkit.records.cells import Cell, DatasetRecord, EnsembleRecord, Run, Spec
from robustkit.records.samples import CARRIED, NOT_ATTACKED, Samples
from robustkit.records.store import Store
from robustkit.study.plan import Study
from robustkit.trust._evidence import Scored

P = (0.6, 0.3, 0.1)
OPTIONS = RunOptions(torch.device("cpu"), batch_size=64)


@pytest.fixture
def split(digits: Dataset) -> Split:
    return digits.split("test").take(80)


@pytest.fixture
def ensemble(trained: Ensemble) -> Ensemble:
    return Ensemble(list(trained.members), "random:0.6,0.3,0.1").eval()


def by_hand(samples: Samples) -> np.ndarray:
    return np.array(P) @ (samples.member_logits.argmax(2) == samples.y)


def attacked(ensemble: Ensemble, split: Split, name: str, eps: float | None) -> tuple[Run, Run]:
    clean = run_cell(Cell("clean", "e", "d"), ensemble, split, None, OPTIONS)
    params = {"steps": 6} if name != "deepfool" else {}
    cell = Cell("attack", "e", "d", Spec("attack", name, params), eps, "linf")
    return clean, run_cell(cell, ensemble, split, clean.samples, OPTIONS)


@pytest.mark.parametrize("name", ["pgd", "arc", "mim", "apgd-ce", "quorum"])
def test_correctness_is_the_share_of_right_answers(ensemble: Ensemble, split: Split, name: str):
    clean, run = attacked(ensemble, split, name, 0.08)
    for samples in (clean.samples, run.samples):
        assert samples.correctness.tolist() == pytest.approx(by_hand(samples).tolist(), abs=1e-7)
        assert samples.randomised.all()
    assert np.array_equal(
        broken(run.samples, targeted=False), (by_hand(run.samples) < 1e-9) & (run.samples.status == 0)
    )
    assert run.samples.correctness.mean() < clean.samples.correctness.mean() - 0.05
    left = (by_hand(clean.samples) > 0) & (by_hand(clean.samples) < 1)
    assert left.any()
    assert (run.samples.status[left] != NOT_ATTACKED).all()
    assert Scored(run, 0.08).standing.tolist() == (by_hand(run.samples) > 1e-9).tolist()


def test_what_is_stored_comes_back(ensemble: Ensemble, trained: Ensemble, split: Split, tmp_path):
    store = Store(tmp_path)
    for model in (ensemble, trained):
        run = run_cell(Cell("clean", model.fusion, "d"), model, split, None, OPTIONS)
        store.save(run)
        back = store.get(run.cell).samples
        assert back.randomised.tolist() == [model is ensemble] * len(split)
        assert np.array_equal(back.correctness, run.samples.correctness)
        assert ("randomised" in run.samples.arrays()) == (model is ensemble)
        kept = back.select(slice(3, 9))
        assert np.array_equal(kept.correctness, back.correctness[3:9])
        assert np.array_equal(Samples.joined([kept, kept]).randomised, np.tile(kept.randomised, 2))


def test_only_an_accuracy_of_zero_is_taken_over_by_the_next_eps(ensemble: Ensemble, split: Split):
    clean, lower = attacked(ensemble, split, "pgd", 0.06)
    cell = replace(lower.cell, eps=0.1, after=lower.cell.key)
    upper = run_cell(cell, ensemble, split, clean.samples, OPTIONS, lower=lower.samples).samples
    taken = np.flatnonzero(upper.carried != 0)
    assert len(taken)
    assert (by_hand(lower.samples)[taken] < 1e-9).all()
    partly = (by_hand(lower.samples) > 0) & (by_hand(lower.samples) < 1)
    assert partly.any()
    assert (upper.carried[partly] != CARRIED).all()


def test_results_are_means_of_the_expected_correctness(ensemble: Ensemble, split: Split, tmp_path):
    """A worst case is the mean of the least of each sample, and no run counts for more than the clean image."""
    record = EnsembleRecord("one", "e", "baseline", {}, ("a",) * 3, 3, ensemble.fusion, "00")
    study = Study(
        ensembles=(record,), dataset=DatasetRecord("digits", "test", len(split), tuple("0123456789"), "d", (1, 8, 8)),
        attacks=tuple(
            Spec("attack", name, {} if name == "deepfool" else {"steps": 4}) for name in ("pgd", "arc", "deepfool")
        ),
        eps=(0.08,), norm="linf", transfer_eps=0.08, suites=("attacks",), reference=False, seed=0, version="9",
        trust="off",
    )  # fmt: skip
    store, found = Store(tmp_path), {}
    clean = run_cell(study.clean(record), ensemble, split, None, OPTIONS)
    store.save(clean)
    for cell in study.white_box(record):
        run = run_cell(cell, ensemble, split, clean.samples, OPTIONS)
        store.save(run)
        value = by_hand(run.samples)
        if cell.eps is None:
            value = np.where(run.samples.linf > 0.08 * (1 + 1e-5), 1.0, value)
        found[cell.name] = np.minimum(value, by_hand(clean.samples))
    results = build(study, store)
    for row in results["evaluations"]:
        assert row["robust_accuracy"] == pytest.approx(found[row["attack"]].mean(), abs=1e-7)
        assert row["clean_accuracy"] == pytest.approx(by_hand(clean.samples).mean(), abs=1e-7)
        assert row["ci95"][0] < row["robust_accuracy"] < row["ci95"][1]
    assert results["ensembles"][0]["accuracy"] == pytest.approx(by_hand(clean.samples).mean(), abs=1e-7)
    worst = np.minimum.reduce(list(found.values())).mean()
    assert results["worst_case"][0]["robust_accuracy"] == pytest.approx(worst, abs=1e-7)
    assert worst <= min(values.mean() for values in found.values())
