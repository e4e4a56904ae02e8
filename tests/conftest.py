"""What many tests need: a small, really trained ensemble, real images, a cache of the tests' own, known draws."""

from __future__ import annotations

import copy
import gc
import os
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from crashes import (  # noqa: F401 - hooks
    pytest_handlecrashitem,
    pytest_runtest_logreport,
    pytest_sessionfinish,
    pytest_terminal_summary,
)
from filelock import FileLock
from torch import nn

from robustkit import data
from robustkit.base.progress import Reporter
from robustkit.ensembles.ensemble import Ensemble
from robustkit.pipeline import models_under_test
from robustkit.records.cells import Spec
from robustkit.training.spec import TrainSpec


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_setup() -> None:
    """Weights and draws that a test does not seed itself are the same in every run, alone and beside others.

    A hook and not a fixture, because those of a module or a session would be set up before it.
    """
    # torch.manual_seed looks for GPUs as well, which takes a thousand times as long.
    torch.default_generator.manual_seed(0)


@pytest.hookimpl(optionalhook=True)  # tests/mutants.py loads no pytest-xdist
def pytest_xdist_auto_num_workers() -> int:
    """One worker more than there are cores: tests that wait for processes, Ray and clocks leave a core idle."""
    asked = os.environ.get("PYTEST_XDIST_AUTO_NUM_WORKERS")
    return int(asked or (os.cpu_count() or 1) + 1)


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--long", action="store_true", help="run the tests marked as long, too: minutes each file")


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Run the longest modules first: the other workers of pytest-xdist take what is short from behind them."""
    if not config.getoption("--long"):
        for item in items:
            if item.get_closest_marker("long"):
                item.add_marker(pytest.mark.skip(reason="takes long: --long runs it"))
    long = (
        "test_ranks", "test_self_test", "test_audit_calibration", "test_cli", "test_end_to_end", "test_benchmarks",
        "test_forward", "test_killed_on_ray", "test_everything_on_ray", "test_pieces_on_ray", "test_commands_on_ray",
        "test_joining_ray", "test_commands_of_pages",
    )  # fmt: skip
    items.sort(key=lambda item: item.path.stem not in long)


@pytest.hookimpl(wrapper=True)
def pytest_collection() -> Any:
    """Let no search for garbage look at what is imported, which stays: that takes seconds of each worker."""
    gc.disable()
    try:
        return (yield)
    finally:
        gc.freeze()
        gc.enable()


@pytest.fixture(scope="session")
def shared_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where all workers of pytest-xdist find what one of them made; whoever makes it holds a FileLock there."""
    base = tmp_path_factory.getbasetemp()
    return base.parent if "PYTEST_XDIST_WORKER" in os.environ else base


@pytest.fixture(autouse=True, scope="session")
def _own_cache(shared_folder: Path) -> None:
    """Tests neither read nor fill the user's cache, but that of all workers: what one trained, no other trains."""
    patch = pytest.MonkeyPatch()
    patch.setenv("ROBUSTKIT_CACHE", str(shared_folder / "cache"))
    yield
    patch.undo()


@pytest.fixture(autouse=True, scope="session")
def _one_thread() -> None:
    """Small tensors gain nothing from a second thread, and two test runs on one machine would stall each other.

    The processes that tests start obey, too.
    """
    torch.set_num_threads(1)
    patch = pytest.MonkeyPatch()
    patch.setenv("OMP_NUM_THREADS", "1")
    yield
    patch.undo()


@pytest.fixture(autouse=True, scope="session")
def _workers_of_ray_are_no_nicer() -> None:
    """Ray's workers give way to everything else, which here is all other tests."""
    patch = pytest.MonkeyPatch()
    patch.setenv("RAY_worker_niceness", "0")
    yield
    patch.undo()


@pytest.fixture(autouse=True, scope="session")
def _no_waiting_for_disks() -> None:
    """Every cell is written through to the disk, for power cuts; whether a test's is, nobody asks."""
    patch = pytest.MonkeyPatch()
    patch.setattr(os, "fsync", lambda descriptor: None)
    yield
    patch.undo()


@pytest.fixture(scope="session")
def digits() -> data.Dataset:
    return data.load("digits")


@pytest.fixture(scope="session")
def few_digits(digits: data.Dataset) -> data.Dataset:
    """The digits with 256 images to train on and 100 to validate: enough where how well it learns does not matter."""
    keep = {"train": 256, "validation": 100, "test": 100}
    source = replace(digits.source, read=lambda name: digits.split(name).take(keep[name]))
    return replace(digits, source=source, _splits={})


@pytest.fixture(scope="session")
def trained_once(shared_folder: Path) -> Callable[[TrainSpec, data.Dataset], Ensemble]:
    """Train once for all workers: the first that needs it holds the lock, the others read."""

    def ensemble(spec: TrainSpec, loaded: data.Dataset) -> Ensemble:
        with FileLock(shared_folder / f"{spec.key}.lock"):
            return models_under_test.trained(spec, loaded, torch.device("cpu"), Reporter())[1]

    return ensemble


def _baseline(digits: data.Dataset, arch: str, **changed: Any) -> TrainSpec:
    """Return a plain recipe; no trial by the clock, which would train, and so round, another way now and then."""
    plain = Spec("defense", "baseline", {})
    return TrainSpec(plain, "digits", digits.split("train").sha256(), arch, **{"speed": "off", "lr": 3e-3, **changed})


@pytest.fixture(scope="session")
def _perceptrons(digits: data.Dataset, trained_once) -> Ensemble:
    return trained_once(_baseline(digits, "networks:perceptron", epochs=40, shift=0.0), digits)


@pytest.fixture(scope="session")
def _resnets(digits: data.Dataset, trained_once) -> Ensemble:
    return trained_once(_baseline(digits, "small-resnet", epochs=3, shift=0.0), digits)


@pytest.fixture
def trained(_perceptrons: Ensemble) -> Ensemble:
    """Three perceptrons, trained on digits, 95 % or more; a copy of its own for each test."""
    return copy.deepcopy(_perceptrons)


@pytest.fixture
def resnets(_resnets: Ensemble) -> Ensemble:
    """Three small ResNets, three epochs on digits, 95 % or more: where convolutions or batch norm matter."""
    return copy.deepcopy(_resnets)


@pytest.fixture(scope="session")
def lenets(digits: data.Dataset, trained_once) -> Ensemble:
    """Three LeNets, 95 % or more, not to be changed: an architecture with a name, for a third of a ResNet's cost."""
    return trained_once(_baseline(digits, "lenet", epochs=5, shift=0.0), digits)


@pytest.fixture
def network(trained: Ensemble) -> nn.Module:
    """One member of it, (B, 1, 8, 8) to logits: a third of the cost, where no ensemble is needed."""
    return trained.members[0]


@pytest.fixture(scope="session")
def test_images(digits: data.Dataset) -> tuple[torch.Tensor, torch.Tensor]:
    """200 real test images, (200, 1, 8, 8), and their labels."""
    _, x, y = digits.split("test").batch(torch.arange(200))
    return x, y
