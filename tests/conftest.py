"""What many tests need: a small ensemble that was really trained, on real images, and a cache of the tests' own."""

from __future__ import annotations

import copy

import pytest
import torch

from robustkit import data
from robustkit.ensemble import Ensemble
from robustkit.records import Spec
from robustkit.training import fit
from robustkit.trainspec import TrainSpec


@pytest.fixture(autouse=True, scope="session")
def _own_cache(tmp_path_factory: pytest.TempPathFactory) -> None:
    """Tests neither read nor fill the user's cache."""
    patch = pytest.MonkeyPatch()
    patch.setenv("ROBUSTKIT_CACHE", str(tmp_path_factory.mktemp("cache")))
    yield
    patch.undo()


@pytest.fixture(autouse=True, scope="session")
def _one_thread() -> None:
    """Small tensors gain nothing from a second thread, and two test runs on one machine would stall each other."""
    torch.set_num_threads(1)


@pytest.fixture(scope="session")
def digits() -> data.Dataset:
    return data.load("digits")


@pytest.fixture(scope="session")
def _trained_once(digits: data.Dataset) -> Ensemble:
    spec = TrainSpec(
        Spec("defense", "baseline", {}),
        "digits",
        digits.split("train").sha256(),
        "small-resnet",
        epochs=10,
        lr=3e-3,
        speed="off",  # a trial by the clock would round, and so train, another way now and then
    )
    return fit(spec, digits).ensemble


@pytest.fixture
def trained(_trained_once: Ensemble) -> Ensemble:
    """Three small ResNets, ten epochs on digits, 95 % or more; a copy of its own for each test."""
    return copy.deepcopy(_trained_once)


@pytest.fixture(scope="session")
def test_images(digits: data.Dataset) -> tuple[torch.Tensor, torch.Tensor]:
    """200 real test images, (200, 1, 8, 8), and their labels."""
    _, x, y = digits.split("test").batch(torch.arange(200))
    return x, y
