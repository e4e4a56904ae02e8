"""An evaluation on all GPUs is that on one: chains of cells are spread, and nothing of one GPU meets another's."""

from __future__ import annotations

import functools
from pathlib import Path
from typing import Any

import pytest
import torch
from accelerator import pretend_cuda
from test_whole_runs_on_a_gpu import NET, QUICK, TRAINING, differences

import robustkit
from robustkit.base.errors import UserError
from robustkit.base.parallel import default_workers
from robustkit.base.progress import Reporter
from robustkit.ensembles.ensemble import Ensemble
from robustkit.evaluation.executors import Piece, Recipe
from robustkit.evaluation.executors._worker import Worker
from robustkit.evaluation.executors.local import Local
from robustkit.records.store import Store

GPUS = tuple(torch.device("cuda", index) for index in range(2))
real = pytest.mark.skipif(torch.cuda.device_count() < 2, reason="there are no two GPUs")


@pytest.fixture(scope="module")
def checkpoints(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    folder = tmp_path_factory.mktemp("ensembles")
    for seed in (0, 1):
        robustkit.train(**TRAINING, device="cpu", seed=seed, out=folder / str(seed))
    return [folder / "0", folder / "1"]


def asked(checkpoints: list[Path], **more: Any) -> dict[str, Any]:
    several = {"attacks": "pgd,mim", "settings": {"pgd.steps": 2, "mim.steps": 2}}
    suites = ("attacks", "transfer", "diversity")
    return {"checkpoint": checkpoints, "arch": NET, **QUICK, **several, "suites": suites, **more}


def places(out: Path) -> set[str]:
    return {environment["device"] for _, _, environment in Store(out / "runs").places() if "device" in environment}


def test_an_evaluation_on_all_gpus_is_that_of_the_cpu(checkpoints: list[Path], tmp_path: Path):
    run = functools.partial(robustkit.evaluate, **asked(checkpoints))
    expected = dict(run(device="cpu", out=tmp_path / "cpu"))
    with pretend_cuda(count=2):
        made = dict(run(device="cuda:all", out=tmp_path / "gpus"))
    assert not list(differences(made, expected))
    assert places(tmp_path / "gpus") == {"cuda:0", "cuda:1"}, "both had work, and every record says where it was done"


@real
def test_an_evaluation_on_all_real_gpus(checkpoints: list[Path], tmp_path: Path):
    run = functools.partial(robustkit.evaluate, **asked(checkpoints))
    expected = dict(run(device="cuda:0", out=tmp_path / "one"))
    made = dict(run(device="cuda:all", out=tmp_path / "all"))
    assert [e["robust_accuracy"] for e in made["evaluations"]] == [
        e["robust_accuracy"] for e in expected["evaluations"]
    ]
    assert len(places(tmp_path / "all")) > 1


def test_an_evaluation_on_the_second_gpu_leaves_the_first_alone(checkpoints: list[Path], tmp_path: Path):
    with pretend_cuda(count=2):
        robustkit.evaluate(**asked(checkpoints[:1], suites=("attacks",)), device="cuda:1", out=tmp_path)
    assert places(tmp_path) == {"cuda:1"}


def test_trainings_are_spread_over_all_gpus(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    said: list[str] = []

    class Heard(Reporter):
        def say(self, message: str) -> None:
            said.append(message)

    few = {"suites": ("attacks",), "settings": {"pgd.steps": 2, "train.batch_size": 512}}  # three steps of a training
    with pretend_cuda(count=2):
        robustkit.evaluate(
            **{**QUICK, **few}, defense="baseline,gncl", arch=NET, members=2, epochs=1, seed=11, device="cuda:all",
            out=tmp_path, reporter=Heard(),
        )  # fmt: skip
    assert {line.rpartition(" on ")[2] for line in said if line.startswith("training ")} == {"cuda:0", "cuda:1"}


def here(worker: Worker, model: str, made: str) -> tuple[str, str, str]:
    """Say where a piece runs, and where what it needs is."""
    net, other = worker.get(model), worker.get(made)
    return str(worker.device), str(next(net.parameters()).device), str(next(other.parameters()).device)


def remake(worker: Worker, model: str) -> torch.nn.Module:
    return torch.nn.Linear(2, 2).to(next(worker.get(model).parameters()).device)


def test_each_gpu_has_what_is_shared_and_what_is_made_of_it():
    with pretend_cuda(count=2):
        model = Ensemble([torch.nn.Linear(2, 2)]).to(GPUS[0])
        local = Local(GPUS[0], 2, GPUS)
        local.share("model", model)
        local.share("made", torch.nn.Identity().to(GPUS[0]) and torch.nn.Linear(2, 2).to(GPUS[0]),
                    Recipe(remake, {"model": "model"}, ("model",)))  # fmt: skip
        with local.session(4, Reporter()) as session:
            for _ in range(4):
                session.submit(Piece(here, {"model": "model", "made": "made"}))
            found = {done.value for done in session.finished()}
        assert found <= {("cuda:0",) * 3, ("cuda:1",) * 3}
        local.drop("model")
        assert not local._copies.keys() & {(GPUS[1], "model")}


def test_one_worker_for_each_gpu():
    assert default_workers(*GPUS) == 2
    assert default_workers(GPUS[0]) == 1


def test_a_function_is_not_audited_on_several_gpus(tmp_path: Path):
    def answer(x: torch.Tensor) -> torch.Tensor:
        return x.flatten(1)[:, :10]

    with pretend_cuda(count=2), pytest.raises(UserError, match="'cuda:all' copies a model to each of several GPUs"):
        robustkit.audit(answer, "digits", n=8, device="cuda:all", out=tmp_path)
