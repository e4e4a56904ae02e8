"""The evaluator: what an attack returns is checked and re-scored, and a failure is never robustness."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import numpy as np
import pytest
import torch
from torch import Tensor

from robustkit.attacks import attack
from robustkit.data import Dataset, Split
from robustkit.ensemble import Ensemble
from robustkit.evaluator import HISTORY, PROBE, Setting, broken, run_cell
from robustkit.norms import size
from robustkit.records import (
    CARRIED,
    CONFIRMED,
    ERROR,
    HERE,
    MISSED,
    NOT_ATTACKED,
    OK,
    OVER_BUDGET,
    Cell,
    Run,
    Spec,
)
from robustkit.sampling import random_targets

SETTING = Setting(torch.device("cpu"), batch_size=64)


@pytest.fixture
def split(digits: Dataset) -> Split:
    return digits.split("test").take(150)


def cell(name: str = "pgd", kind: str = "attack", eps: float | None = 0.1, norm: str = "linf", **more) -> Cell:
    return Cell(kind, "e", "d", Spec("attack", name, more.pop("params", {})), eps, norm, **more)


def run(ensemble: Ensemble, split: Split, asked: Cell, setting: Setting = SETTING) -> Run:
    clean = run_cell(Cell("clean", "e", "d"), ensemble, split, None, setting)
    return run_cell(asked, ensemble, split, clean.samples, setting)


@pytest.fixture
def fake() -> Iterator[Callable[[Callable[..., Tensor]], str]]:
    """Register an attack for one test."""

    def register(function: Callable[..., Tensor]) -> str:
        attack("fake", norms=("linf",))(function)
        return "fake"

    yield register
    attack.remove("fake")


def test_facts_are_those_of_the_images_that_come_back(trained: Ensemble, split: Split):
    result = run(trained, split, cell()).samples
    _, x, y = split.batch(torch.arange(len(split)))
    made = torch.from_numpy(result.examples)
    with torch.no_grad():
        np.testing.assert_allclose(result.member_logits, trained.member_logits(made).numpy(), atol=1e-5)
        np.testing.assert_allclose(result.fused, trained(made).numpy(), atol=1e-5)
    for norm, stored in (("l1", result.l1), ("l2", result.l2), ("linf", result.linf)):
        np.testing.assert_allclose(stored, size(made - x, norm).numpy(), rtol=1e-5)
    np.testing.assert_allclose(result.l0, size(made - x, "l0").numpy() / 64, rtol=1e-6)
    assert result.linf.max() <= 0.1 + 1e-6
    assert np.array_equal(result.ids, split.ids.numpy())
    wrong = trained(x).argmax(1).numpy() != y.numpy()
    assert wrong.any()
    assert (result.status[wrong] == NOT_ATTACKED).all()
    assert (result.status[~wrong] == OK).all()
    assert (result.linf[wrong] == 0).all()
    assert (result.forwards[wrong] == 0).all()
    assert (result.forwards[~wrong] >= 1).all()
    assert result.history.shape == (HISTORY, 11)
    assert np.isfinite(result.history[:, 0]).sum() == (~wrong)[:HISTORY].sum()


def test_batch_size_changes_no_fact(trained: Ensemble, split: Split):
    results = [run(trained, split, cell(), Setting(torch.device("cpu"), b)).samples for b in (7, 64, 150)]
    for other in results[1:]:
        assert np.array_equal(results[0].prediction, other.prediction)
        assert np.array_equal(results[0].forwards, other.forwards)
        np.testing.assert_allclose(results[0].examples, other.examples, atol=1e-6)
        np.testing.assert_allclose(results[0].history, other.history, atol=1e-5)


def test_transfer_uses_every_step_on_every_sample(trained: Ensemble, split: Split):
    result = run(trained, split, cell(kind="transfer", source="member-1")).samples
    assert (result.status == OK).all()
    assert (result.forwards == 11).all()
    on_source = (result.member_prediction[1] == result.y).mean()
    assert on_source < (result.member_prediction[0] == result.y).mean()


def test_targeted_cells_aim_at_seeded_labels_other_than_the_true_one(trained: Ensemble, split: Split):
    result = run(trained, split, cell(target="random", eps=0.3, seed=4)).samples
    expected = random_targets(4, split.ids, split.y, 10).numpy()
    assert np.array_equal(result.target, expected)
    assert (result.target != result.y).all()
    assert (result.prediction == result.target).mean() > 0.2
    assert (run(trained, split, cell()).samples.target == -1).all()


def test_an_attack_that_leaves_the_ball_is_caught_and_projected(trained: Ensemble, split: Split, fake):
    name = fake(lambda model, x, y, *, eps, generator, trace: x + 3 * eps)
    done = run(trained, split, cell(name))
    attacked = done.samples.status != NOT_ATTACKED
    assert (done.samples.status[attacked] == OVER_BUDGET).all()
    assert done.samples.linf.max() <= 0.1 + 1e-6
    assert done.samples.examples.max() <= 1
    assert done.warnings == ("fake left the linf ball of eps 0.1 or the [0, 1] box; its images were projected",)


def test_an_attack_that_crashes_is_an_error_on_its_batch_only(trained: Ensemble, split: Split, fake):
    def crash(model, x, y, *, eps, generator, trace):
        if (y == 3).any() and len(x) < 64:
            raise ValueError("no threes,\nplease")
        return x

    done = run(trained, split, cell(fake(crash)))
    errors = done.samples.status == ERROR
    assert 0 < errors.sum() < 64  # the last, smaller batch
    assert done.warnings == ("fake failed: ValueError: no threes, please",)
    assert (done.samples.linf == 0).all()


def test_a_gradient_that_is_not_finite_costs_its_sample_alone(trained: Ensemble, split: Split, fake):
    bad = int(split.ids[10])
    images = split.batch(torch.tensor([10]))[1]

    def nan(model, x, y, *, eps, generator, trace):
        if (x == images).flatten(1).all(1).any():
            raise FloatingPointError("not finite")
        return x

    done = run(trained, split, cell(fake(nan)))
    assert done.samples.ids[done.samples.status == ERROR].tolist() == [bad]


@pytest.mark.parametrize(
    ("returned", "warning"),
    [
        (lambda x: torch.full_like(x, float("nan")), "returned pixels that are not finite"),
        (lambda x: x[:, :, :2], "returned no images of shape"),
        (lambda x: None, "returned no images of shape"),
    ],
)
def test_what_is_no_image_is_an_error(trained: Ensemble, split: Split, fake, returned, warning: str):
    name = fake(lambda model, x, y, *, eps, generator, trace: returned(x))
    done = run(trained, split, cell(name))
    attacked = done.samples.status != NOT_ATTACKED
    assert (done.samples.status[attacked] == ERROR).all()
    assert np.isfinite(done.samples.fused).all()
    assert warning in done.warnings[0]


def test_the_attacks_own_word_does_not_count(trained: Ensemble, split: Split, fake):
    """An attack that returns x breaks nothing, and one that claims nothing may break much."""
    same = run(trained, split, cell(fake(lambda model, x, y, **_: x))).samples
    clean = run_cell(Cell("clean", "e", "d"), trained, split, None, SETTING).samples
    assert np.array_equal(same.prediction, clean.prediction)
    assert np.array_equal(same.fused, clean.fused)


def test_examples_can_be_left_out(trained: Ensemble, split: Split):
    without = run(trained, split, cell(), Setting(torch.device("cpu"), 64, keep_examples=False)).samples
    assert without.examples.size == 0
    assert np.array_equal(without.prediction, run(trained, split, cell()).samples.prediction)


def test_a_sample_of_the_target_class_has_no_target_and_is_left_alone(trained: Ensemble, split: Split):
    result = run(trained, split, cell(target="3", eps=0.3)).samples
    assert (result.target[result.y == 3] == -1).all()
    assert (result.status[result.y == 3] == NOT_ATTACKED).all()
    assert (result.target[result.y != 3] == 3).all()
    assert (result.prediction[result.y != 3] == 3).mean() > 0.2


def ladder(ensemble: Ensemble, split: Split, name: str, *budgets: float, **more) -> list[Run]:
    """Run one attack at ascending eps, each taking over what the one before it broke."""
    setting = more.pop("setting", SETTING)
    clean = run_cell(Cell("clean", "e", "d"), ensemble, split, None, setting)
    runs: list[Run] = []
    for eps in budgets:
        before = runs[-1] if runs else None
        asked = cell(name, eps=eps, after=before.cell.key if before else "", **more)
        runs.append(run_cell(asked, ensemble, split, clean.samples, setting, lower=before.samples if before else None))
    return runs


@pytest.mark.parametrize(("targeted", "budgets"), [(False, (0.15, 0.2)), (True, (0.35, 0.4))])
def test_what_a_smaller_eps_broke_is_taken_over(
    trained: Ensemble, split: Split, targeted: bool, budgets: tuple[float, float]
):
    more = {"target": "random"} if targeted else {}
    small, large = (run.samples for run in ladder(trained, split, "pgd", *budgets, **more))
    alone = run(trained, split, cell(eps=budgets[1], **more)).samples
    won = broken(small, targeted)
    taken = large.carried != HERE
    assert np.array_equal(taken, won)
    assert 0 < (large.carried == CARRIED).sum() < taken.sum()  # more than the 64 that are attacked anew
    assert (large.carried >= CONFIRMED).sum() == PROBE
    assert (np.flatnonzero(large.carried >= CONFIRMED) == np.flatnonzero(won)[:PROBE]).all()
    again = large.carried == CONFIRMED
    assert np.array_equal(again[taken][:PROBE], broken(alone, targeted)[taken][:PROBE])
    for name in ("member_logits", "fused", "l0", "l1", "l2", "linf", "forwards", "backwards", "status", "examples"):
        axis = 1 if name == "member_logits" else 0
        old, new, fresh = (getattr(s, name) for s in (small, large, alone))
        np.testing.assert_array_equal(np.compress(taken, new, axis), np.compress(taken, old, axis))
        np.testing.assert_allclose(np.compress(~taken, new, axis), np.compress(~taken, fresh, axis), atol=1e-5)
    assert (large.seconds[large.carried == CARRIED] == 0).all()
    assert broken(large, targeted).sum() >= broken(alone, targeted).sum() > won.sum()


def test_taking_over_depends_neither_on_batches_nor_on_blocks(trained: Ensemble, split: Split, monkeypatch):
    reference = ladder(trained, split, "pgd", 0.05, 0.1, 0.15)[-1].samples
    monkeypatch.setattr("robustkit.scoring.SCORE_BATCH", 16)
    monkeypatch.setattr("robustkit.evaluator.SCORE_BATCH", 16)
    monkeypatch.setattr("robustkit.evaluator.BLOCK", 32)
    other = ladder(trained, split, "pgd", 0.05, 0.1, 0.15, setting=Setting(torch.device("cpu"), batch_size=7))[
        -1
    ].samples
    for name in ("ids", "prediction", "carried", "forwards", "backwards", "status"):
        assert np.array_equal(getattr(reference, name), getattr(other, name))
    np.testing.assert_allclose(reference.examples, other.examples, atol=1e-6)
    np.testing.assert_allclose(reference.history, other.history, atol=1e-5)


def test_an_attack_that_misses_what_a_smaller_eps_broke_is_noted(trained: Ensemble, split: Split, fake):
    pgd = attack.get("pgd")

    def fades(model, x, y, *, eps, generator, trace):
        return pgd(model, x, y, eps=eps, generator=generator) if eps < 0.2 else x

    small, large = (r.samples for r in ladder(trained, split, fake(fades), 0.15, 0.2))
    assert (large.carried == MISSED).sum() == min(PROBE, broken(small, False).sum()) > 0
    assert np.array_equal(broken(small, False), broken(large, False))


def test_a_crash_at_the_larger_eps_is_not_papered_over(trained: Ensemble, split: Split, fake):
    pgd = attack.get("pgd")

    def crash(model, x, y, *, eps, generator, trace):
        if eps > 0.18:
            raise ValueError("no")
        return pgd(model, x, y, eps=eps, generator=generator)

    small, large = (r.samples for r in ladder(trained, split, fake(crash), 0.15, 0.2))
    assert ((large.status == ERROR) == ~(large.carried == CARRIED) & (small.status != NOT_ATTACKED)).all()
    assert (large.status == ERROR).sum() >= PROBE


def test_only_so_many_images_are_kept(trained: Ensemble, split: Split, monkeypatch):
    monkeypatch.setattr("robustkit.evaluator.EXAMPLE_BYTES", 40 * 64 * 4)
    small, large = (r.samples for r in ladder(trained, split, "pgd", 0.1, 0.15))
    assert len(small.examples) == len(large.examples) == 40
    none = Setting(torch.device("cpu"), 64, keep_examples=False)
    clean = run_cell(Cell("clean", "e", "d"), trained, split, None, none).samples
    bare = run_cell(cell(), trained, split, clean, none)
    above = run_cell(cell(eps=0.15, after=bare.cell.key), trained, split, clean, SETTING, lower=bare.samples)
    assert len(above.samples.examples) == 0
    assert np.array_equal(above.samples.prediction, large.prediction)
