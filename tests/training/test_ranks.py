"""Two processes of torchrun train the ensemble that one would."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from accelerator import pretend_cuda

import robustkit
from robustkit.base.errors import UserError
from robustkit.data import Dataset
from robustkit.ensembles.checkpoint import load_ensemble, read_meta
from robustkit.ensembles.ensemble import Ensemble
from robustkit.records.cells import Spec
from robustkit.training import optim
from robustkit.training.ranks import Ranks, own_device
from robustkit.training.spec import TrainSpec

WITHOUT_BATCH_NORM = """
import torch
from torch import nn

def net(channels, classes):
    return nn.Sequential(nn.Flatten(), nn.Linear(64 * channels, 32), nn.ReLU(), nn.Linear(32, classes))
"""

WITH_BATCH_NORM = """
from torch import nn

def net(channels, classes):
    return nn.Sequential(
        nn.Conv2d(channels, 16, 3, 2, 1), nn.BatchNorm2d(16), nn.ReLU(), nn.Flatten(), nn.Linear(256, classes)
    )
"""

# torchrun's own agent and environment, but its processes are forked once everything that trainings import is there,
# which takes longer than these trainings. Its arguments are two trainings, one after the other.
TORCHRUN = """
import gc
import sys
import matplotlib.figure
import torch._dynamo  # an optimiser's first call does
from torch.distributed.launcher.api import LaunchConfig, elastic_launch
import robustkit.api
import robustkit.cli
from robustkit.__main__ import main

gc.freeze()
at = sys.argv.index("and")
for words in (sys.argv[1:at], sys.argv[at + 1 :]):
    sys.argv[1:] = words
    config = LaunchConfig(
        1, 1, 2, run_id="-".join(words[:2]), rdzv_backend="c10d", rdzv_endpoint="localhost:0", start_method="fork",
        max_restarts=0, monitor_interval=0.05,
    )
    elastic_launch(config, main)()
"""

# No shifts: the processes draw different ones. Without batch norm the shares of a batch add up to the whole.
SETTINGS = ["train.shift=0", "train.optimiser=sgd", "train.lr=0.05"]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory, digits: Dataset) -> Path:
    """A folder with the digits in a file, divided, and what two processes trained on them: ``plain`` and ``normed``."""
    folder = tmp_path_factory.mktemp("ranks")
    parts = {"train": "train", "val": "validation", "test": "test"}
    arrays = {f"{axis}_{part}": values.numpy() for part, name in parts.items()
              for axis, values in (("x", digits.split(name).tensor()), ("y", digits.split(name).y))}  # fmt: skip
    np.savez(folder / "digits.npz", **arrays)
    (folder / "plainnet.py").write_text(WITHOUT_BATCH_NORM)
    (folder / "normed.py").write_text(WITH_BATCH_NORM)
    every = ("--dataset", f"npz:{folder / 'digits.npz'}", "--speed", "off", "--members", "2")
    plain = ("--defense", "adp", "--arch", "plainnet:net", "--epochs", "2", "--out", str(folder / "plain"))
    normed = ("--defense", "advt-fgsm", "--arch", "normed:net", "--epochs", "4", "--out", str(folder / "normed"))
    settings = [word for setting in SETTINGS for word in ("--set", setting)]
    environment = {**os.environ, "PYTHONPATH": f"{folder}{os.pathsep}{os.environ.get('PYTHONPATH', '')}",
                   "ROBUSTKIT_CACHE": str(folder / "cache"), "OMP_NUM_THREADS": "1"}  # fmt: skip
    done = subprocess.run(
        [sys.executable, "-c", TORCHRUN, "train", *every, *plain, *settings,
         "and", "train", *every, *normed, "--set", "train.lr=3e-3"],
        env=environment, cwd=folder, capture_output=True, text=True, timeout=240, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-3000:]
    assert done.stdout.count("checkpoint:") == 2, "one of each training"
    return folder


def test_two_processes_move_the_weights_as_one_would(folder: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.syspath_prepend(folder)
    robustkit.train(
        defense="adp", arch="plainnet:net", members=2, epochs=2, settings=SETTINGS, speed="off",
        dataset=f"npz:{folder / 'digits.npz'}", out=folder / "alone",
    )  # fmt: skip
    one, two = (load_ensemble(folder / name, arch="plainnet:net") for name in ("alone", "plain"))
    for (name, a), b in zip(one.named_parameters(), two.parameters(), strict=True):
        torch.testing.assert_close(b, a, rtol=1e-3, atol=1e-5, msg=lambda m, n=name: f"{n}: {m}")
    first, second = (read_meta(folder / name)["history"] for name in ("alone", "plain"))
    for a, b in zip(first, second, strict=True):
        assert b["loss"] == pytest.approx(a["loss"], rel=1e-4)
        assert b["accuracy"] == pytest.approx(a["accuracy"], abs=1e-6)
    assert json.loads((folder / "plain" / "ensemble.json").read_text())["training"]["processes"] == 2


def test_two_processes_with_batch_norm_agree_and_learn(folder: Path):
    assert read_meta(folder / "normed")["metrics"]["test_accuracy"] > 0.8


def test_one_process_changes_nothing():
    p = torch.nn.Parameter(torch.ones(2))
    p.grad = torch.tensor([1.0, 2.0])
    Ranks().average_gradients([p], 0.5)
    assert p.grad.tolist() == [1.0, 2.0]
    assert Ranks().decided("x") == "x"
    assert Ranks().total(torch.tensor(3.0)) == 3
    assert own_device(torch.device("cpu")) == torch.device("cpu")


@pytest.mark.parametrize(
    ("device", "environment", "message"),
    [
        ("cuda:0", {"LOCAL_RANK": "1", "LOCAL_WORLD_SIZE": "2"}, "2 processes here, and all of them are to train on"),
        ("cuda", {"LOCAL_RANK": "0", "LOCAL_WORLD_SIZE": "3"}, "3 processes here, but torch sees 2 CUDA devices;"),
    ],
)  # fmt: skip
def test_processes_that_would_share_a_gpu_are_refused(
    device: str, environment: dict[str, str], message: str, monkeypatch: pytest.MonkeyPatch
):
    """NCCL says "Duplicate GPU detected", and CUDA "invalid device ordinal"."""
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    with pretend_cuda(count=2), pytest.raises(UserError, match=message):
        own_device(torch.device(device))


def test_each_process_takes_a_gpu_of_its_own(monkeypatch: pytest.MonkeyPatch):
    with pretend_cuda(count=2):
        monkeypatch.setenv("LOCAL_WORLD_SIZE", "2")
        for rank in (0, 1):
            monkeypatch.setenv("LOCAL_RANK", str(rank))
            assert own_device(torch.device("cuda")) == torch.device("cuda", rank)
        monkeypatch.setenv("LOCAL_WORLD_SIZE", "1")
        monkeypatch.setenv("LOCAL_RANK", "0")
        assert own_device(torch.device("cuda:1")) == torch.device("cuda:1")  # one of them may choose


def step_of(ranks: Ranks, optimiser: str, layout: torch.memory_format, steps: int = 3) -> list[torch.Tensor]:
    """Return weights after some steps on one batch, of an ensemble whose last member gets no gradient in the first."""
    torch.manual_seed(0)
    members = [
        torch.nn.Sequential(torch.nn.Conv2d(3, 5, 3), torch.nn.ReLU(), torch.nn.Conv2d(5, 4, 2), torch.nn.Flatten(1))
        for _ in range(2)
    ]
    ensemble = Ensemble(members).to(memory_format=layout)
    on = optim.optimiser(
        TrainSpec(Spec("defense", "baseline", {}), "", "", "", optimiser=optimiser), ensemble.parameters()
    )
    x = torch.rand(6, 3, 5, 5).contiguous(memory_format=layout)
    for step in range(steps):
        on.zero_grad()
        sum(member(x).pow(2).sum() for member in ensemble.members[: 1 if step == 0 else 2]).backward()
        ranks.average_gradients(ensemble.parameters(), 0.5)
        assert all(p.grad is None or p.grad.stride() == p.stride() for p in ensemble.parameters())
        if ranks.world == 1:
            for p in ensemble.parameters():
                p.grad = torch.zeros_like(p) if p.grad is None else p.grad
        on.step()
    return [p.detach().clone() for p in ensemble.parameters()]


@pytest.mark.parametrize("optimiser", ["adam", "sgd", "adabelief"])
@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last], ids=["contiguous", "channels-last"])
def test_gradients_of_equal_processes_are_those_of_one_in_any_layout(
    optimiser: str, layout: torch.memory_format, monkeypatch: pytest.MonkeyPatch
):
    """Fused optimisers walk through memory: a gradient laid out otherwise reaches other weights, without a word."""
    alone = step_of(Ranks(), optimiser, layout)
    monkeypatch.setattr(torch.distributed, "all_reduce", lambda tensor: tensor.mul_(2))  # the other has the same
    for expected, made in zip(alone, step_of(Ranks(0, 2), optimiser, layout), strict=True):
        torch.testing.assert_close(made, expected, rtol=0, atol=1e-7)


def test_statistics_are_averaged_in_any_layout(monkeypatch: pytest.MonkeyPatch):
    module = torch.nn.BatchNorm2d(2)
    module.register_buffer("maps", torch.arange(48.0).view(2, 3, 2, 4).contiguous(memory_format=torch.channels_last))
    before, messages = {name: buffer.clone() for name, buffer in module.named_buffers()}, []

    def other(tensor: torch.Tensor) -> None:
        assert tensor.is_contiguous()  # what the real one asks for
        messages.append(len(tensor))
        tensor.add_(3 * tensor)

    monkeypatch.setattr(torch.distributed, "all_reduce", other)
    Ranks(1, 2).average_statistics(module)
    assert len(messages) == 1, "one for all"
    for name, buffer in module.named_buffers():
        assert torch.equal(buffer, 2 * before[name] if buffer.is_floating_point() else before[name])
    assert module.maps.is_contiguous(memory_format=torch.channels_last)
