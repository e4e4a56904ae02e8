"""Memory that runs out on a GPU costs batches and no result, whoever says it and wherever it happens."""

from __future__ import annotations

import copy
import functools
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from accelerator import Accelerator, pretend_cuda
from accelerator_rules import SHORTAGES
from torch import Tensor, nn
from torch.nn import functional

from robustkit.attacks import attack
from robustkit.base.progress import Reporter
from robustkit.corruptions._run import batch_of, make
from robustkit.data import Dataset, Split
from robustkit.ensembles.ensemble import Ensemble
from robustkit.ensembles.fastpath import Crafting, prepare
from robustkit.evaluation.cell import RunOptions, run_cell
from robustkit.evaluation.crafting import AttackRunner
from robustkit.evaluation.execute import Craftings
from robustkit.evaluation.executors._worker import Once, Worker
from robustkit.evaluation.scoring import score
from robustkit.functional.batching import out_of_memory
from robustkit.functional.trace import Trace
from robustkit.records.cells import Cell, Facts, Run, Spec
from robustkit.records.samples import ERROR
from robustkit.suites._attributions import attributions
from robustkit.suites._certifying import certified, smoothed

GPU = torch.device("cuda:0")
ON_GPU = RunOptions(GPU, batch_size=16)
BIM = Cell("attack", "e", "d", Spec("attack", "bim", {"steps": 3}), 0.1, "linf")


@pytest.fixture
def few(digits: Dataset) -> Split:
    """So few images that they are one batch and a half; the model is right on all of them."""
    x = digits.split("test").take(24).tensor()
    return Split(x, model()(x).argmax(1))


def model() -> Ensemble:
    """Two members whose activations are far larger than images and weights."""

    def member(seed: int) -> nn.Module:
        torch.manual_seed(seed)
        return nn.Sequential(
            nn.Conv2d(1, 64, 3, padding=1), nn.ReLU(), nn.AdaptiveAvgPool2d(2), nn.Flatten(), nn.Linear(256, 10)
        )

    return Ensemble([member(0), member(1)]).eval().requires_grad_(False)


def attacked(on: Ensemble, few: Split, clean: Run, options: RunOptions = ON_GPU, cell: Cell = BIM) -> Run:
    return run_cell(cell, on, few, clean.samples, options)


def same(made: Run, expected: Run, near: float = 1e-6) -> None:
    assert (made.samples.status != ERROR).all()
    assert made.warnings == ()
    assert np.array_equal(made.samples.prediction, expected.samples.prediction)
    assert np.array_equal(made.samples.forwards, expected.samples.forwards)
    np.testing.assert_allclose(made.samples.examples, expected.samples.examples, atol=near)


def clean_of(on: Ensemble, few: Split) -> Run:
    return run_cell(Cell("clean", "e", "d"), on, few, None, ON_GPU)


@pytest.mark.parametrize("words", SHORTAGES)
def test_every_way_to_say_it_is_understood(words: str):
    assert out_of_memory(SHORTAGES[words](2**20, 2**30, 0))


@pytest.mark.parametrize("other", [RuntimeError("CUDA error: an illegal memory access"), ValueError("out of memory")])
def test_nothing_else_is(other: Exception):
    assert not out_of_memory(other)


def failing(gpu: Accelerator, function: Callable[[], Any], every: bool) -> Iterator[tuple[int, Any, int]]:
    """Yield what a function gives while one of its allocations fails, each in turn, and how much it had in memory.

    Whoever says so is another one each time. Without ``--long`` a dozen of the allocations fail, of all that there
    are, and the last one.
    """
    gpu.clear()
    function()
    count, whole = gpu.allocations, gpu.peak
    assert count > 10
    for at in range(1, count + 1) if every else sorted({*range(1, count, max(1, count // 12)), count}):
        gpu.clear()
        gpu.fail_at, gpu.words = at, list(SHORTAGES)[at % len(SHORTAGES)]
        yield at, function(), whole
        assert gpu.fail_at is None, "it did fail"
        assert gpu.peak <= whole


ATTACKS = {
    "bim": BIM, "pgd": replace(BIM, attack=Spec("attack", "pgd", {"steps": 2, "restarts": 1})),
    "cw": replace(BIM, attack=Spec("attack", "cw", {"steps": 2, "search_steps": 1}), eps=None, norm="l2"),
}  # fmt: skip


def test_a_loss_history_is_read_where_there_is_no_memory_to_put_it_together():
    with pretend_cuda() as gpu:
        trace = Trace(3, keep=2)
        rows = torch.arange(3).to(GPU)
        for step in range(5):
            standing = (rows != 0) if step != 3 else rows > 3
            trace.loss(rows, rows + float(step), standing)
        expected = trace.history
        assert expected.shape == (2, 4), "nobody stood in one step"
        gpu.limit = gpu.live
        torch.testing.assert_close(trace.history, expected, equal_nan=True)


@pytest.mark.parametrize("name", ATTACKS)
def test_an_allocation_that_fails_costs_a_batch_whichever_it_is(
    name: str, few: Split, pytestconfig: pytest.Config, monkeypatch: pytest.MonkeyPatch
):
    sizes: list[int] = []
    whole = AttackRunner.craft
    monkeypatch.setattr(
        AttackRunner, "craft", lambda self, *given: whole(self, *given) or sizes.append(self.batch_size)
    )
    with pretend_cuda() as gpu:
        on = model().to(GPU)
        clean = clean_of(on, few)
        expected = attacked(on, few, clean, cell=ATTACKS[name])
        halved = set()
        for _, made, _ in failing(
            gpu, lambda: attacked(on, few, clean, cell=ATTACKS[name]), pytestconfig.getoption("--long")
        ):
            # C&W steps as far as the linearised boundary is: what another size of a batch rounds is made larger.
            same(made, expected, near=1e-5 if name == "cw" else 1e-6)
            halved.add(sizes[-1])
        # C&W's working set shrinks to any number of samples, half of which is what is tried next.
        most = set(range(1, 17)) if name == "cw" else {16, 8, 4}
        assert halved <= most, "of 24, 16 asked for, parts on a GPU are 16 and 8"
        assert halved & {8, 4}, "what failed within a pass of the model was halved"


def test_a_score_is_the_same_whichever_allocation_fails(few: Split, pytestconfig: pytest.Config):
    with pretend_cuda() as gpu:
        on = model().to(GPU)
        _, x, _ = few.batch(range(len(few)))
        expected = score(on, x, x, GPU)
        for at, made, _ in failing(gpu, lambda: score(on, x, x, GPU), pytestconfig.getoption("--long")):
            torch.testing.assert_close(made.fused, expected.fused, msg=f"allocation {at}")
            torch.testing.assert_close(made.member_logits, expected.member_logits)


def test_attributions_are_the_same_whichever_allocation_fails(few: Split, pytestconfig: pytest.Config):
    asked = {"samples": len(few), "steps": 2, "shown": 3}
    with pretend_cuda() as gpu:
        on = model().to(GPU)

        def found() -> dict[str, Any]:
            return attributions(on, few, asked, ON_GPU, lambda *_: None)

        expected = found()
        assert "error" not in expected
        for _, made, _ in failing(gpu, found, pytestconfig.getoption("--long")):
            assert made.keys() == expected.keys()
            for name, value in expected.items():
                np.testing.assert_allclose(made[name], value, rtol=1e-4, atol=1e-5, err_msg=name)


def test_a_fault_of_the_device_is_not_a_member_without_a_gradient(few: Split, monkeypatch: pytest.MonkeyPatch):
    def faulty(*_: object, **__: object) -> None:
        raise RuntimeError("CUDA error: an illegal memory access was encountered")

    monkeypatch.setattr("robustkit.suites._attributions.saliency", faulty)
    with pytest.raises(RuntimeError, match="illegal memory access"):
        attributions(
            model(), few, {"samples": 4, "steps": 2, "shown": 0}, RunOptions(torch.device("cpu")), lambda *_: None
        )


def test_what_does_not_fit_is_halved_until_it_does_and_the_peak_falls(few: Split):
    with pretend_cuda() as gpu:
        on = model().to(GPU)
        clean = clean_of(on, few)
        gpu.clear()
        expected = attacked(on, few, clean)
        whole = gpu.peak
        for share in (0.8, 0.4, 0.25):
            gpu.clear()
            gpu.limit = int(share * whole)
            same(attacked(on, few, clean), expected)
            assert gpu.peak <= gpu.limit


def test_an_attempt_that_failed_is_gone_when_the_next_begins(few: Split):
    """Another library's attack has no batches of ours: all of it is tried again, with half of the samples."""
    held: list[int] = []

    def greedy(model: Callable[[Tensor], Tensor], x: Tensor, y: Tensor, **_: object) -> Tensor:
        held.append(gpu.live)
        point = x.clone().requires_grad_()
        loss = functional.cross_entropy(model(point), y)
        return (x + 0.1 * torch.autograd.grad(loss, point)[0].sign()).clamp(0, 1).detach()

    attack("greedy", norms=("linf",))(greedy)
    try:
        with pretend_cuda() as gpu:
            on = model().to(GPU)
            cell = replace(BIM, attack=Spec("attack", "greedy", {}), backend="other")
            clean, rest = clean_of(on, few), gpu.live
            gpu.clear()
            expected = attacked(on, few, clean, replace(ON_GPU, batch_size=24), cell)
            gpu.limit = rest + (gpu.peak - rest) // 6
            held.clear()
            same(attacked(on, few, clean, replace(ON_GPU, batch_size=24), cell), expected)
            assert len(held) > 4, "24, 12, 6, 3 samples"
            assert max(held) - rest < 2**14, "images and labels, and nothing of the attempts before"
    finally:
        attack.remove("greedy")


@pytest.mark.parametrize("function", [certified, smoothed])
def test_proofs_need_no_more_memory_than_there_is(function: Callable[..., Facts], few: Split):
    name = function.__name__
    params = {"certified": {"steps": 2, "cases": 4, "case_steps": 2}, "smoothed": {"sigma": 0.1, "draws": 20,
              "failure": 0.01}}[name]  # fmt: skip
    cell = Cell("probe", "e", "d", Spec(name, name, {**params, "first": 0, "count": 8}), 0.01, "linf")
    with pretend_cuda() as gpu:
        nets = [nn.Sequential(nn.Flatten(), nn.Linear(64, 300), nn.ReLU(), nn.Linear(300, 10)) for _ in range(2)]
        on = (Ensemble(nets, "mean-logit").eval().requires_grad_(False) if name == "certified" else model()).to(GPU)
        x = few.batch(range(len(few)))[1]
        right = Split(x, on(x.to(GPU)).argmax(1).cpu())
        shared = {"ensemble e": on, "images": right}
        run = functools.partial(function, Worker(GPU, 1, shared.__getitem__, Once()), cell, "images", ON_GPU)
        gpu.clear()
        expected, rest, whole = run(), gpu.live, gpu.peak
        gpu.clear()
        gpu.limit = rest + (whole - rest) * 2 // 3
        made = run()
        assert rest < gpu.peak <= gpu.limit
        for key, values in expected.arrays.items():
            np.testing.assert_allclose(made.arrays[key], values, rtol=1e-6, err_msg=key)


def test_scores_need_no_more_memory_than_there_is(few: Split):
    with pretend_cuda() as gpu:
        on = model().to(GPU)
        _, x, _ = few.batch(range(len(few)))
        gpu.clear()
        expected = score(on, x, x, GPU)
        gpu.limit = gpu.live + (gpu.peak - gpu.live) // 3
        made = score(on, x, x, GPU)
        torch.testing.assert_close(made.fused, expected.fused)
        gpu.limit = gpu.live + 10
        with pytest.raises(torch.OutOfMemoryError, match="CUDA out of memory"):
            score(on, x, x, GPU)


def test_a_trial_that_does_not_fit_is_one_of_fewer_images(few: Split):
    def peak(gpu: Accelerator, batch: int) -> tuple[int, Crafting]:
        gpu.clear()
        made = prepare(on, x, batch=batch)
        return gpu.peak, made

    with pretend_cuda() as gpu:
        on = copy.deepcopy(model()).to(GPU)
        x = few.batch(range(len(few)))[1].to(GPU)
        small, large = peak(gpu, 32)[0], peak(gpu, 128)[0]
        assert large > 2.5 * small, "the trial is of as many images as are attacked"
        gpu.limit = 2 * small
        assert peak(gpu, 128)[1].exact is not None
        assert gpu.peak <= gpu.limit


def test_without_memory_for_a_copy_the_model_is_attacked_as_it_is_this_time(
    few: Split, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setenv("ROBUSTKIT_CACHE", str(tmp_path))
    with pretend_cuda() as gpu:
        on = Ensemble([nn.Sequential(nn.Flatten(), nn.Linear(64, 4096), nn.Linear(4096, 10))]).to(GPU)
        on.eval().requires_grad_(False)
        study = SimpleNamespace(ensembles=[SimpleNamespace(key="e", id="one")], surrogates=[], version="0")
        gpu.clear()
        whole = sum(p.nbytes for p in on.parameters())
        gpu.limit = gpu.live + whole // 2
        made = Craftings(study, {"e": on}, few, ON_GPU, Reporter()).of("e")
        assert made.exact is on
        assert made.kept == "there is no memory for copies"
        assert not [*tmp_path.rglob("*.json")], "which is not remembered"
        gpu.limit = gpu.live + 20 * whole
        again = Craftings(study, {"e": on}, few, ON_GPU, Reporter()).of("e")
        assert again.kept != made.kept  # what the trial chooses now, the clock says


@pytest.mark.parametrize("batch", [4, 12])
def test_blocks_on_a_gpu_hold_four_of_its_batches(batch: int, few: Split, monkeypatch: pytest.MonkeyPatch):
    """So that an attack's batches are full; on a CPU, whose cache is small, what they hold is fixed."""
    monkeypatch.setattr("robustkit.evaluation.cell.SCORE_BATCH", 8)
    monkeypatch.setattr("robustkit.evaluation.cell.BLOCK", 8)
    read: list[int] = []
    whole = Split.batch
    monkeypatch.setattr(Split, "batch", lambda self, rows: read.append(len(rows)) or whole(self, rows))
    on = model()
    run_cell(Cell("clean", "e", "d"), on, few, None, RunOptions(torch.device("cpu"), batch))
    assert read == {4: [8, 8, 8], 12: [16, 8]}[batch]
    read.clear()
    with pretend_cuda():
        run_cell(Cell("clean", "e", "d"), copy.deepcopy(on).to(GPU), few, None, RunOptions(GPU, batch))
    assert read == {4: [16, 8], 12: [24]}[batch]


def test_corruptions_work_on_more_images_at_a_time_on_a_gpu_and_on_fewer_where_memory_runs_out(few: Split):
    assert batch_of((3, 224, 224), torch.device("cpu")) == 6
    assert batch_of((3, 224, 224), GPU) == 111
    assert batch_of((3, 32, 32), GPU) % 256 == 0
    ids, x, _ = few.batch(range(len(few)))
    spec = Spec("corruption", "gaussian_noise", {"severity": 3})
    expected = make(spec, 0, ids, x, torch.device("cpu"))
    with pretend_cuda() as gpu:
        assert torch.equal(make(spec, 0, ids, x, GPU), expected)
        gpu.limit = gpu.peak // 3
        gpu.clear()
        assert torch.equal(make(spec, 0, ids, x, GPU), expected)
        assert gpu.peak <= gpu.limit
