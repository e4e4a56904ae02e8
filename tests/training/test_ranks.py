"""Two processes, of torchrun or other, train the ensemble that one would."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

import robustkit
from robustkit.data import Dataset
from robustkit.ensembles.checkpoint import load_ensemble, read_meta
from robustkit.training.ranks import Ranks, own_device

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

# Two ranks without torchrun: forked once torch is imported, which takes longer than these trainings.
FORKED = """
import os, sys
import robustkit.api
import torch._dynamo  # an optimiser's first call does
from robustkit.__main__ import main

children = []
for rank in range(2):
    if not (child := os.fork()):
        os.environ |= {"RANK": str(rank), "LOCAL_RANK": str(rank), "WORLD_SIZE": "2"}
        code = 1
        try:
            main()
            code = 0
        except SystemExit as stop:
            code = stop.code or 0
        finally:
            sys.stdout.flush()
            os._exit(code)
    children.append(child)
sys.exit(max([os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) for child in children], key=abs))
"""
TORCHRUN = ("-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2", "-m", "robustkit")


@pytest.fixture
def folder(tmp_path: Path, digits: Dataset) -> Path:
    """A folder with the digits in a file, divided: to read them there, a process needs no scikit-learn."""
    parts = {"train": "train", "val": "validation", "test": "test"}
    arrays = {f"{axis}_{part}": values.numpy() for part, name in parts.items()
              for axis, values in (("x", digits.split(name).tensor()), ("y", digits.split(name).y))}  # fmt: skip
    np.savez(tmp_path / "digits.npz", **arrays)
    return tmp_path


def _train(folder: Path, launch: tuple[str, ...], *more: str) -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = str(free.getsockname()[1])
    environment = {**os.environ, "PYTHONPATH": f"{folder}{os.pathsep}{os.environ.get('PYTHONPATH', '')}",
                   "ROBUSTKIT_CACHE": str(folder / "cache2"), "OMP_NUM_THREADS": "1",
                   "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port}  # fmt: skip
    done = subprocess.run(
        [sys.executable, *launch, "train", "--dataset", f"npz:{folder / 'digits.npz'}", "--speed", "off",
         "--out", str(folder / "out2"), *more],
        env=environment, cwd=folder, capture_output=True, text=True, timeout=240, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-3000:]
    assert done.stdout.count("checkpoint:") == 1


def test_two_processes_move_the_weights_as_one_would(folder: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.syspath_prepend(folder)
    (folder / "plainnet.py").write_text(WITHOUT_BATCH_NORM)
    # No shifts: the processes draw different ones. Without batch norm the shares of a batch add up to the whole.
    settings = ["train.shift=0", "train.optimiser=sgd", "train.lr=0.05"]
    robustkit.train(
        defense="adp", arch="plainnet:net", members=2, epochs=2, settings=settings, speed="off",
        dataset=f"npz:{folder / 'digits.npz'}", out=folder / "out1",
    )  # fmt: skip
    options = ("--defense", "adp", "--arch", "plainnet:net", "--members", "2", "--epochs", "2")
    _train(folder, TORCHRUN, *options, *(word for run_options in settings for word in ("--set", run_options)))
    one, two = (load_ensemble(folder / f"out{n}", arch="plainnet:net") for n in (1, 2))
    for (name, a), b in zip(one.named_parameters(), two.parameters(), strict=True):
        torch.testing.assert_close(b, a, rtol=1e-3, atol=1e-5, msg=lambda m, n=name: f"{n}: {m}")
    first, second = (read_meta(folder / f"out{n}")["history"] for n in (1, 2))
    for a, b in zip(first, second, strict=True):
        assert b["loss"] == pytest.approx(a["loss"], rel=1e-4)
        assert b["accuracy"] == pytest.approx(a["accuracy"], abs=1e-6)
    assert json.loads((folder / "out2" / "ensemble.json").read_text())["training"]["processes"] == 2


def test_two_processes_with_batch_norm_agree_and_learn(folder: Path):
    (folder / "normed.py").write_text(WITH_BATCH_NORM)
    options = (
        "--defense", "advt-fgsm", "--arch", "normed:net", "--members", "2", "--epochs", "4", "--set", "train.lr=3e-3",
    )  # fmt: skip
    _train(folder, ("-c", FORKED), *options)
    meta = read_meta(folder / "out2")
    assert meta["metrics"]["test_accuracy"] > 0.8


def test_one_process_changes_nothing():
    p = torch.nn.Parameter(torch.ones(2))
    p.grad = torch.tensor([1.0, 2.0])
    Ranks().average_gradients([p], 0.5)
    assert p.grad.tolist() == [1.0, 2.0]
    assert Ranks().decided("x") == "x"
    assert Ranks().total(torch.tensor(3.0)) == 3
    assert own_device(torch.device("cpu")) == torch.device("cpu")
