"""Two processes under torchrun train the ensemble that one would."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from robustkit.checkpoint import load_ensemble, read_meta
from robustkit.ranks import Ranks, own_device

WITHOUT_BATCH_NORM = """
import torch
from torch import nn

def net(channels, classes):
    return nn.Sequential(nn.Flatten(), nn.Linear(64 * channels, 32), nn.ReLU(), nn.Linear(32, classes))
"""


def _train(folder: Path, *more: str, processes: int = 1) -> None:
    launch = [sys.executable, "-m"]
    if processes > 1:
        launch += ["torch.distributed.run", "--standalone", f"--nproc-per-node={processes}", "-m"]
    environment = {**os.environ, "PYTHONPATH": f"{folder}{os.pathsep}{os.environ.get('PYTHONPATH', '')}",
                   "ROBUSTKIT_CACHE": str(folder / f"cache{processes}"), "OMP_NUM_THREADS": "1"}  # fmt: skip
    out = ("--out", str(folder / f"out{processes}"))
    done = subprocess.run(
        [*launch, "robustkit", "train", "--dataset", "digits", "--speed", "off", *out, *more],
        env=environment, cwd=folder, capture_output=True, text=True, timeout=240, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-3000:]
    assert done.stdout.count("checkpoint:") == 1


def test_two_processes_move_the_weights_as_one_would(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.syspath_prepend(tmp_path)
    (tmp_path / "plainnet.py").write_text(WITHOUT_BATCH_NORM)
    # No shifts: the processes draw different ones. Without batch norm the shares of a batch add up to the whole.
    options = ("--defense", "adp", "--arch", "plainnet:net", "--members", "2", "--epochs", "2",
               "--set", "train.shift=0", "--set", "train.optimiser=sgd", "--set", "train.lr=0.05")  # fmt: skip
    _train(tmp_path, *options)
    _train(tmp_path, *options, processes=2)
    one, two = (load_ensemble(tmp_path / f"out{n}", arch="plainnet:net") for n in (1, 2))
    for (name, a), b in zip(one.named_parameters(), two.parameters(), strict=True):
        torch.testing.assert_close(b, a, rtol=1e-3, atol=1e-5, msg=lambda m, n=name: f"{n}: {m}")
    first, second = (read_meta(tmp_path / f"out{n}")["history"] for n in (1, 2))
    for a, b in zip(first, second, strict=True):
        assert b["loss"] == pytest.approx(a["loss"], rel=1e-4)
        assert b["accuracy"] == pytest.approx(a["accuracy"], abs=1e-6)
    assert json.loads((tmp_path / "out2" / "ensemble.json").read_text())["training"]["processes"] == 2


def test_two_processes_with_batch_norm_agree_and_learn(tmp_path: Path):
    _train(tmp_path, "--defense", "advt-fgsm", "--members", "2", "--epochs", "4", "--set", "train.lr=3e-3", processes=2)
    meta = read_meta(tmp_path / "out2")
    assert meta["metrics"]["test_accuracy"] > 0.8


def test_one_process_changes_nothing():
    p = torch.nn.Parameter(torch.ones(2))
    p.grad = torch.tensor([1.0, 2.0])
    Ranks().average_gradients([p], 0.5)
    assert p.grad.tolist() == [1.0, 2.0]
    assert Ranks().decided("x") == "x"
    assert Ranks().total(torch.tensor(3.0)) == 3
    assert own_device(torch.device("cpu")) == torch.device("cpu")
