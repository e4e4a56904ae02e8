"""What only a real GPU can show; skipped where there is none."""

from __future__ import annotations

import copy
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from robustkit.base import devices
from robustkit.base.devices import find_device, find_devices, free_on, machine
from robustkit.base.errors import UserError
from robustkit.data import Dataset, Split
from robustkit.ensembles.ensemble import Ensemble
from robustkit.ensembles.fastpath import prepare
from robustkit.evaluation.cell import RunOptions, environment, run_cell
from robustkit.functional.precision import divided, exactly
from robustkit.records.cells import Cell, Spec
from robustkit.records.samples import ERROR
from robustkit.training.forward import LAYOUT, PRECISION, STACKED
from robustkit.training.loop import fit
from robustkit.training.spec import TrainSpec

pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no GPU")
GPU = torch.device("cuda:0")


def ensemble() -> Ensemble:
    """Two members whose activations are far larger than images and weights."""

    def member(seed: int) -> nn.Module:
        torch.manual_seed(seed)
        return nn.Sequential(
            nn.Conv2d(1, 64, 3, padding=1), nn.BatchNorm2d(64), nn.ReLU(), nn.AdaptiveAvgPool2d(2), nn.Flatten(),
            nn.Linear(256, 10),
        )  # fmt: skip

    return Ensemble([member(0), member(1)]).eval().requires_grad_(False)


@pytest.fixture
def wide(digits: Dataset) -> Split:
    """Images so large that a batch is hundreds of megabytes; the model is right on all of them."""
    x = nn.functional.interpolate(digits.split("test").take(64).tensor(), size=(128, 128))
    return Split(x, ensemble()(x).argmax(1))


@pytest.fixture
def little() -> Iterator[Callable[[int], None]]:
    """Let torch have so many bytes of the GPU, as where another process has the rest."""
    total = torch.cuda.get_device_properties(0).total_memory
    yield lambda size: torch.cuda.set_per_process_memory_fraction(size / total, 0)
    torch.cuda.set_per_process_memory_fraction(1.0, 0)


def test_cuda_devices_that_are_not_there():
    count = torch.cuda.device_count()
    with pytest.raises(UserError, match=rf"torch sees {count} CUDA devices?: cuda:0 \(.*\) has .* GiB free"):
        find_device(f"cuda:{count}")
    assert len(find_devices("cuda:all")) == count
    assert torch.cuda.get_device_name(0) in free_on(GPU)
    assert machine(GPU) == machine(torch.device("cuda"))


def test_a_cuda_device_that_is_full(monkeypatch: pytest.MonkeyPatch):
    """Other tests may run on it meanwhile: the limit is raised, the memory is not filled."""
    free, total = torch.cuda.mem_get_info(0)
    monkeypatch.setattr(devices, "LEAST", total)
    with pytest.raises(UserError, match=r"has [0-9.]+ of [0-9.]+ GiB free, too little to begin"):
        find_device("cuda:0")
    held = torch.empty(min(free // 2, 2**30), dtype=torch.uint8, device=GPU)
    assert torch.cuda.mem_get_info(0)[0] < free, "what is free is what the driver says"
    del held


@pytest.mark.parametrize("name", ["pgd", "cw"])
def test_cuda_memory_that_runs_out_costs_batches_and_no_result(name: str, wide: Split, little: Callable[[int], None]):
    eps, norm = (0.05, "linf") if name == "pgd" else (None, "l2")
    params = {"steps": 5, **({"search_steps": 1} if name == "cw" else {"restarts": 1})}
    cell, on, options = Cell("attack", "e", "d", Spec("attack", name, params), eps, norm), ensemble().to(GPU), None
    options = RunOptions(GPU, batch_size=64)
    clean = run_cell(Cell("clean", "e", "d"), on, wide, None, options)
    torch.cuda.empty_cache()
    torch.cuda.reset_peak_memory_stats()
    expected = run_cell(cell, on, wide, clean.samples, options)
    peak = torch.cuda.max_memory_reserved()
    for share in (0.6, 0.3):
        torch.cuda.empty_cache()
        little(int(share * peak))
        torch.cuda.reset_peak_memory_stats()
        made = run_cell(cell, on, wide, clean.samples, options)
        assert torch.cuda.max_memory_reserved() <= share * peak
        assert (made.samples.status != ERROR).all()
        assert float((made.samples.prediction == expected.samples.prediction).mean()) >= 0.98


def test_cuda_computes_exactly_what_is_scored_and_says_so(wide: Split):
    x = wide.batch(range(16))[1]
    with exactly(GPU):
        made = ensemble().to(GPU).member_logits(x.to(GPU)).cpu()
    torch.testing.assert_close(made, ensemble().member_logits(x), rtol=1e-5, atol=1e-5)
    found = environment(GPU)
    assert (found["tf32"], found["cudnn_deterministic"], found["cudnn_benchmark"]) == (False, True, False)
    assert found["device_name"] == torch.cuda.get_device_name(0)
    assert found["cuda"] == torch.version.cuda
    levels = torch.arange(256.0)
    assert torch.equal(divided(levels.to(GPU), 255).cpu(), levels / 255)


def test_faster_copies_on_cuda_are_proven(wide: Split):
    on = ensemble().to(GPU)
    x = wide.batch(range(32))[1].to(GPU)
    chosen = prepare(on, x, batch=64)
    with exactly(GPU):
        torch.testing.assert_close(chosen.exact.member_logits(x), on.member_logits(x), rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize("way", [LAYOUT, f"{LAYOUT}, {STACKED}", f"{LAYOUT}, {PRECISION}, {STACKED}"])
@pytest.mark.parametrize("optimiser", ["adam", "sgd", "adabelief"])
def test_a_training_on_cuda_learns(way: str, optimiser: str, few_digits: Dataset):
    spec = TrainSpec(
        Spec("defense", "adp", {"alpha": 2.0, "beta": 0.5}), "digits", "sha", "networks:normed", members=2, epochs=3,
        batch_size=16, optimiser=optimiser,
    )  # fmt: skip
    made = fit(spec, few_digits, device=GPU, way=way)
    assert made.metrics["validation_accuracy"] > 0.5
    assert np.isfinite([row["loss"] for row in made.history]).all()
    assert made.metrics["device"] == machine(GPU)


def test_a_copy_of_an_ensemble_on_another_cuda_device():
    if torch.cuda.device_count() < 2:
        pytest.skip("there are no two GPUs")
    on = ensemble().to(GPU)
    other, x = copy.deepcopy(on).to("cuda:1"), torch.rand(4, 1, 16, 16)
    torch.testing.assert_close(other(x.to("cuda:1")).cpu(), on(x.to(GPU)).cpu())


@pytest.mark.parametrize("processes", ["one more than there are GPUs", "two for one GPU"])
def test_torchrun_on_cuda_refuses_what_nccl_cannot(processes: str, tmp_path: Path):
    count = 2 if processes == "two for one GPU" else torch.cuda.device_count() + 1
    device = "cuda:0" if processes == "two for one GPU" else "cuda"
    done = subprocess.run(
        [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", str(count), "-m",
         "robustkit", "train", "--defense", "baseline", "--epochs", "1", "--device", device, "--out", str(tmp_path)],
        capture_output=True, text=True, timeout=120, check=False, env={**os.environ},
    )  # fmt: skip
    assert done.returncode != 0
    assert f"torchrun started {count} processes here" in done.stderr
