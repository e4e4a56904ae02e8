"""The evaluator: what an attack returns is checked and re-scored, and a failure is never robustness."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import numpy as np
import pytest
import torch
from torch import Tensor

from robustkit.attacks import attack
from robustkit.data import Dataset, Split
from robustkit.ensembles.ensemble import Ensemble
from robustkit.ensembles.fastpath import Crafting
from robustkit.evaluation.cell import HISTORY, PROBE, RunOptions, broken, run_cell
from robustkit.functional.norms import size
from robustkit.functional.sampling import random_targets
from robustkit.records.cells import Cell, Run, Spec
from robustkit.records.samples import CARRIED, CONFIRMED, ERROR, HERE, MISSED, NOT_ATTACKED, OK, OVER_BUDGET

SETTING = RunOptions(torch.device("cpu"), batch_size=64)


@pytest.fixture
def split(digits: Dataset) -> Split:
    return digits.split("test").take(150)


@pytest.fixture
def few(digits: Dataset) -> Split:
    """So many images as an attack of many steps needs here: some of them fall, and some stand."""
    return digits.split("test").take(60)


def cell(name: str = "pgd", kind: str = "attack", eps: float | None = 0.1, norm: str = "linf", **more) -> Cell:
    return Cell(kind, "e", "d", Spec("attack", name, more.pop("params", {})), eps, norm, **more)


def run(ensemble: Ensemble, split: Split, asked: Cell, run_options: RunOptions = SETTING) -> Run:
    clean = run_cell(Cell("clean", "e", "d"), ensemble, split, None, run_options)
    return run_cell(asked, ensemble, split, clean.samples, run_options)


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
    results = [run(trained, split, cell(), RunOptions(torch.device("cpu"), b)).samples for b in (7, 64, 150)]
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
    images = split.batch(torch.tensor([100]))[1]

    def crash(model, x, y, *, eps, generator, trace):
        if (x == images).flatten(1).all(1).any():
            raise ValueError("not this one,\nplease")
        return x

    done = run(trained, split, cell(fake(crash)))
    attacked = done.samples.status != NOT_ATTACKED
    errors = done.samples.status == ERROR
    assert errors[100]
    assert errors.sum() == 64  # its batch, not the pool
    assert not (errors & ~attacked).any()
    assert done.warnings == ("fake failed: ValueError: not this one, please",)
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
    without = run(trained, split, cell(), RunOptions(torch.device("cpu"), 64, keep_examples=False)).samples
    assert without.examples.size == 0
    assert np.array_equal(without.prediction, run(trained, split, cell()).samples.prediction)


def test_a_sample_of_the_target_class_has_no_target_and_is_left_alone(trained: Ensemble, split: Split):
    result = run(trained, split, cell(target="3", eps=0.3)).samples
    assert (result.target[result.y == 3] == -1).all()
    assert (result.status[result.y == 3] == NOT_ATTACKED).all()
    assert (result.target[result.y != 3] == 3).all()
    assert (result.prediction[result.y != 3] == 3).mean() > 0.2


def test_images_are_in_memory_a_block_at_a_time(trained: Ensemble, split: Split, monkeypatch):
    monkeypatch.setattr("robustkit.evaluation.scoring.SCORE_BATCH", 16)
    monkeypatch.setattr("robustkit.evaluation.cell.SCORE_BATCH", 16)
    monkeypatch.setattr("robustkit.evaluation.cell.BLOCK", 32)
    read, asked = [], []
    batch, forward = Split.batch, Ensemble.member_logits
    monkeypatch.setattr(Split, "batch", lambda self, rows: read.append(len(rows)) or batch(self, rows))
    monkeypatch.setattr(Ensemble, "member_logits", lambda self, x: asked.append(len(x)) or forward(self, x))
    run(trained, split, cell(params={"steps": 2}), RunOptions(torch.device("cpu"), 8))
    assert max(read) == 32
    assert sum(read) == 2 * len(split)  # the clean cell and the attack, each image once
    assert max(asked) == 16  # scores; the attack's own batches are smaller


def test_who_waits_sees_samples_that_are_done_and_passes_of_the_model(trained: Ensemble, few: Split, monkeypatch):
    monkeypatch.setattr("robustkit.evaluation.crafting.LOOK", -1.0)
    clean = run_cell(Cell("clean", "e", "d"), trained, few, None, SETTING).samples
    seen: list[tuple[int, str]] = []

    def advance(steps: int = 1, note: str = "") -> None:
        seen.append((steps, note))

    for crafting in (None, Crafting(trained, trained, "twice")):
        seen.clear()
        run_cell(cell(params={"steps": 20}), trained, few, clean, SETTING, advance, crafting)
        assert sum(steps for steps, _ in seen) == len(few)
        notes = [note for _, note in seen if note]
        assert notes[:2] == ["1 passes of the model", "2 passes of the model"]
        assert len(notes) >= 20


def test_workers_change_no_fact(trained: Ensemble, split: Split):
    one, three = (run(trained, split, cell(), RunOptions(torch.device("cpu"), 64, workers=w)).samples for w in (1, 3))
    for name in ("prediction", "status", "forwards", "backwards"):
        assert np.array_equal(getattr(one, name), getattr(three, name))
    np.testing.assert_allclose(one.examples, three.examples, atol=1e-6)
    np.testing.assert_allclose(one.history, three.history, atol=1e-5)


class Blunt(torch.nn.Module):
    """A rough member: its gradients are right on half of the images and useless on the others."""

    def __init__(self, member: torch.nn.Module) -> None:
        super().__init__()
        self.member = member

    def forward(self, x: Tensor) -> Tensor:
        bright = (x.mean((1, 2, 3)) > 0.3)[:, None, None, None]
        return self.member(torch.where(bright, x, x.detach()) + 0 * x)


@pytest.mark.parametrize("targeted", [False, True])
def test_what_a_rough_model_leaves_standing_is_attacked_again_exactly(trained: Ensemble, few: Split, targeted: bool):
    more = {"params": {"steps": 40, "step_size": 0.01}, **({"target": "random", "eps": 0.25} if targeted else {})}
    clean = run_cell(Cell("clean", "e", "d"), trained, few, None, SETTING)
    exact = run_cell(cell(**more), trained, few, clean.samples, SETTING).samples
    rough = Crafting(trained, Ensemble([Blunt(m) for m in trained.members]), "blunt first")
    both = run_cell(cell(**more), trained, few, clean.samples, SETTING, crafting=rough)
    won = broken(both.samples, targeted)
    assert (won >= broken(exact, targeted)).all()
    assert 0 < won.sum() < len(few)
    standing = ~won & (exact.status == OK)
    assert standing.any()
    np.testing.assert_array_equal(both.samples.examples[standing], exact.examples[standing])
    assert (both.samples.forwards[standing] == exact.forwards[standing] + 21).all()  # both passes are counted
    assert both.environment["crafting"] == "blunt first"
    np.testing.assert_allclose(both.samples.history[standing[:HISTORY]], exact.history[standing[:HISTORY]])


def test_only_where_success_is_all_that_counts_goes_the_rough_model_first(trained: Ensemble, few: Split):
    class Never(torch.nn.Module):
        asked = 0

        def forward(self, x: Tensor) -> Tensor:
            Never.asked += 1
            raise AssertionError("the rough model was asked")

    rough = Crafting(trained, Ensemble([Never()] * 3), "")
    clean = run_cell(Cell("clean", "e", "d"), trained, few, None, SETTING).samples
    long = {"params": {"steps": 20}}
    others = (
        cell("fgsm"), cell("pgd"), cell("pgd", kind="transfer", **long), cell("deepfool", eps=None, norm="l2", **long)
    )  # fmt: skip
    for other in others:
        assert (run_cell(other, trained, few, clean, SETTING, crafting=rough).samples.status != ERROR).all()
    assert Never.asked == 0
    asked = run_cell(cell("pgd", **long), trained, few, clean, SETTING, crafting=rough)
    assert Never.asked > 0
    assert (asked.samples.status != ERROR).all()  # and where it crashes, the exact one does all of it
    assert asked.warnings == ()


def test_a_pool_is_computed_in_batches_that_halve_for_good_where_memory_runs_out(
    trained: Ensemble, split: Split, monkeypatch
):
    sizes = []
    forward = Ensemble.forward

    def small(self: Ensemble, x: Tensor) -> Tensor:
        sizes.append(len(x))
        if len(x) > 20:
            raise torch.OutOfMemoryError("no")
        return forward(self, x)

    plain = run(trained, split, cell("bim")).samples
    clean = run_cell(Cell("clean", "e", "d"), trained, split, None, SETTING).samples
    monkeypatch.setattr(Ensemble, "forward", small)
    done = run_cell(cell("bim"), trained, split, clean, SETTING).samples
    assert sizes[0] > 32  # even batches of at most 64
    assert max(sizes[3:]) <= 20
    assert np.array_equal(done.prediction, plain.prediction)
    assert np.array_equal(done.forwards, plain.forwards)
    attacked = (done.status == OK).sum()
    assert sum(s for s in sizes if s <= 20) == done.forwards.sum() >= attacked


def test_another_librarys_attack_is_given_batches(trained: Ensemble, split: Split, fake):
    sizes = []

    def spy(model, x, y, *, eps, generator, trace):
        sizes.append(len(x))
        return x

    run(trained, split, cell(fake(spy), backend="other"))
    assert max(sizes) <= 64
    sizes.clear()
    run(trained, split, cell("fake"))
    assert len(sizes) == 1  # ours has all of them at once


@pytest.mark.parametrize(
    ("device", "shape", "expected"),
    [("cpu", (3, 32, 32), 256), ("cpu", (1, 8, 8), 256), ("cpu", (3, 224, 224), 16), ("cuda", (3, 64, 64), 512)],
)
def test_batch_size_goes_by_the_images(device: str, shape: tuple[int, ...], expected: int):
    assert RunOptions(torch.device(device)).batch(shape) == expected
    assert RunOptions(torch.device(device), 7).batch(shape) == 7


def ladder(ensemble: Ensemble, split: Split, name: str, *budgets: float, **more) -> list[Run]:
    """Run one attack at ascending eps, each taking over what the one before it broke."""
    run_options = more.pop("run_options", SETTING)
    clean = run_cell(Cell("clean", "e", "d"), ensemble, split, None, run_options)
    runs: list[Run] = []
    for eps in budgets:
        before = runs[-1] if runs else None
        asked = cell(name, eps=eps, after=before.cell.key if before else "", **more)
        runs.append(
            run_cell(asked, ensemble, split, clean.samples, run_options, lower=before.samples if before else None)
        )
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
    reference = ladder(trained, split, "pgd", 0.1, 0.15, 0.2)[-1].samples
    monkeypatch.setattr("robustkit.evaluation.scoring.SCORE_BATCH", 16)
    monkeypatch.setattr("robustkit.evaluation.cell.SCORE_BATCH", 16)
    monkeypatch.setattr("robustkit.evaluation.cell.BLOCK", 32)
    other = ladder(trained, split, "pgd", 0.1, 0.15, 0.2, run_options=RunOptions(torch.device("cpu"), batch_size=13))[
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
    monkeypatch.setattr("robustkit.evaluation.cell.EXAMPLE_BYTES", 40 * 64 * 4)
    small, large = (r.samples for r in ladder(trained, split, "pgd", 0.1, 0.15))
    assert len(small.examples) == len(large.examples) == 40
    none = RunOptions(torch.device("cpu"), 64, keep_examples=False)
    clean = run_cell(Cell("clean", "e", "d"), trained, split, None, none).samples
    bare = run_cell(cell(), trained, split, clean, none)
    above = run_cell(cell(eps=0.15, after=bare.cell.key), trained, split, clean, SETTING, lower=bare.samples)
    assert len(above.samples.examples) == 0
    assert np.array_equal(above.samples.prediction, large.prediction)
