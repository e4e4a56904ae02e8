"""A whole training, evaluation, audit and pool on a GPU give what they give on the CPU: pretend, and real if any."""

from __future__ import annotations

import contextlib
import copy
import functools
import itertools
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
import torch
from accelerator import pretend_cuda

import robustkit
from robustkit.ensembles.checkpoint import load_ensemble
from robustkit.suites import detection

NET = "networks:normed"
TRAINING: dict[str, Any] = {"defense": "adp", "arch": NET, "members": 2, "epochs": 1, "speed": "off"}
QUICK: dict[str, Any] = {
    "attacks": "pgd",
    "n": 8,
    "eps": 0.1,
    "settings": {"pgd.steps": 2},
    "formats": (),
    "speed": "off",
    "reference": False,
}
SUITES = ("attacks", "transfer", "corruptions", "detection", "ood", "calibration", "diversity")
# What tells one run from another of the same numbers.
OF_THE_RUN = {"seconds", "environment", "cost", "run", "advice"}  # advice names the folder


@pytest.fixture(params=["pretend", "cuda"])
def real(request: pytest.FixtureRequest) -> bool:
    if request.param == "cuda" and not torch.cuda.is_available():
        pytest.skip("there is no GPU")
    return request.param == "cuda"


@pytest.fixture(scope="module")
def checkpoints(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    folder = tmp_path_factory.mktemp("ensembles")
    for seed in (0, 1):
        robustkit.train(**TRAINING, device="cpu", seed=seed, out=folder / str(seed))
    return [folder / "0", folder / "1"]


def differences(a: Any, b: Any, at: str = "") -> Iterator[str]:
    """Yield where two records differ, apart from what tells runs from each other."""
    if isinstance(a, Mapping) and isinstance(b, Mapping):
        for key in {*a, *b}:
            if key not in OF_THE_RUN:
                yield from differences(a.get(key), b.get(key), f"{at}.{key}")
    elif isinstance(a, list) and isinstance(b, list) and len(a) == len(b):
        for index, (x, y) in enumerate(zip(a, b, strict=True)):
            yield from differences(x, y, f"{at}[{index}]")
    elif a != b:
        yield f"{at}: {a!r}, {b!r}"


def same(asked: Callable[..., Any], real: bool, folder: Path) -> dict[str, Any]:
    """Run what is asked for on both devices; return the records of the GPU once they are found to be the CPU's."""
    expected = dict(asked(device="cpu", out=folder / "cpu"))
    with contextlib.nullcontext() if real else pretend_cuda():
        made = dict(asked(device="cuda", out=folder / "gpu"))
    assert made["environment"]["cudnn_deterministic"] is True
    assert made["environment"]["tf32"] is False
    found = list(itertools.islice(differences(made, expected), 20))
    assert real or not found, found
    return made


def test_evaluation(checkpoints: list[Path], real: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(detection, "SETTINGS", {"steps": 4, "search_steps": 1})  # many launches a step
    asked = {"checkpoint": checkpoints, "arch": NET, "suites": SUITES, "corruptions": "design-diversity", **QUICK}
    made = same(functools.partial(robustkit.evaluate, **asked), real, tmp_path)
    assert all(made[suite] for suite in ("evaluations", "corruptions", "detection", "ood", "diversity"))


def test_proofs(checkpoints: list[Path], real: bool, tmp_path: Path):
    asked = {**QUICK, "checkpoint": checkpoints[:1], "arch": NET, "suites": ("certified", "smoothing"), "trust": "off",
             "eps": 0.004, "certify_n": 4, "sigma": 0.1, "smoothing_draws": 20}  # fmt: skip
    made = same(functools.partial(robustkit.evaluate, **asked), real, tmp_path)
    assert made["certified"][0]["slack"] > 0
    assert made["smoothing"]


def test_audit(checkpoints: list[Path], real: bool, tmp_path: Path):
    member = next(iter(load_ensemble(checkpoints[0], arch=NET).members))
    asked = {**QUICK, "suites": ("attacks", "calibration"), "force": True, "trust": "off"}
    same(lambda **where: robustkit.audit(copy.deepcopy(member), "digits", **asked, **where), real, tmp_path)


def test_pool(checkpoints: list[Path], real: bool, tmp_path: Path):
    asked = {"pool": checkpoints, "subset_size": 2, "arch": NET, "n": 8, "corruptions": "design-diversity"}
    made = same(functools.partial(robustkit.evaluate, **asked, formats=()), real, tmp_path)
    assert made["pools"][0]["sets"]


def test_faster_copies_leave_verdicts_as_they_are(checkpoints: list[Path], real: bool, tmp_path: Path):
    """With a trial by the clock, and (pretend) with TF32 and reciprocals rounded as on CUDA."""
    asked = {**QUICK, "checkpoint": checkpoints[:1], "arch": NET, "speed": "auto", "n": 40, "trust": "off"}
    expected = robustkit.evaluate(**{**asked, "speed": "off"}, device="cpu", out=tmp_path / "cpu")
    with contextlib.nullcontext() if real else pretend_cuda(rounds=True):
        made = robustkit.evaluate(**asked, device="cuda:0", out=tmp_path / "gpu")
    here, there = (r["evaluations"][0]["robust_accuracy"] for r in (made, expected))
    assert here == pytest.approx(there, abs=1.01 / 40)


def test_a_checkpoint_trained_on_a_gpu_is_that_of_the_cpu(checkpoints: list[Path], real: bool, tmp_path: Path):
    with contextlib.nullcontext() if real else pretend_cuda():
        robustkit.train(**TRAINING, device="cuda", seed=0, out=tmp_path / "gpu")
    made, expected = (load_ensemble(folder, arch=NET).state_dict() for folder in (tmp_path / "gpu", checkpoints[0]))
    for name, value in made.items():
        assert torch.allclose(value, expected[name], atol=0.05) if real else torch.equal(value, expected[name]), name
