"""With what a GPU rounds otherwise, at most one verdict in a thousand is another than the CPU's."""

from __future__ import annotations

import contextlib
import copy
from collections.abc import Callable

import numpy as np
import pytest
import torch
from accelerator import pretend_cuda

from robustkit.data import Dataset, Split
from robustkit.ensembles.ensemble import Ensemble
from robustkit.ensembles.fastpath import prepare
from robustkit.evaluation.cell import RunOptions, run_cell
from robustkit.records.cells import Cell, Run, Spec
from robustkit.records.samples import ERROR
from robustkit.training.spec import TrainSpec

SAMPLES, EPS = 1000, 0.09
CPU, GPU = torch.device("cpu"), torch.device("cuda:0")
PGD = Spec("attack", "pgd", {"steps": 12, "restarts": 1})
APGD = Spec("attack", "apgd-dlr", {"steps": 10, "restarts": 1})


@pytest.fixture(scope="module")
def ensemble(digits: Dataset, trained_once: Callable[[TrainSpec, Dataset], Ensemble]) -> Ensemble:
    spec = TrainSpec(
        Spec("defense", "baseline", {}), "digits", digits.split("train").sha256(), "lenet", members=2, epochs=4,
        batch_size=32, speed="off",
    )  # fmt: skip
    return trained_once(spec, digits)


def attacked(ensemble: Ensemble, split: Split, device: torch.device, attack: Spec, speed: str) -> Run:
    on, options = copy.deepcopy(ensemble).to(device), RunOptions(device, speed=speed)
    crafting = prepare(on, split.batch(range(64))[1].to(device), speed, chosen="" if speed == "off" else CHOSEN)
    assert speed == "off" or crafting.rough is not None, "a rough copy goes first"
    clean = run_cell(Cell("clean", "e", "d"), on, split, None, options)
    return run_cell(Cell("attack", "e", "d", attack, EPS, "linf"), on, split, clean.samples, options, crafting=crafting)


@pytest.fixture(scope="module")
def by_cpu(ensemble: Ensemble, digits: Dataset) -> Callable[[Spec], Run]:
    """What the CPU makes of an attack, as it is: the same for every way and place that is held against it."""
    made: dict[str, Run] = {}

    def run(attack: Spec) -> Run:
        if attack.name not in made:
            made[attack.name] = attacked(ensemble, digits.split("train").take(SAMPLES), CPU, attack, "off")
        return made[attack.name]

    return run


CHOSEN = "batch norm folded, channels last; bfloat16 first"


@pytest.mark.parametrize("attack", [PGD, APGD], ids=["pgd", "apgd-dlr"])
@pytest.mark.parametrize("speed", ["off", "auto"])
@pytest.mark.parametrize("where", ["pretend", "cuda"])
def test_verdicts(
    where: str, speed: str, attack: Spec, by_cpu: Callable[[Spec], Run], ensemble: Ensemble, digits: Dataset
):
    if where == "cuda" and not torch.cuda.is_available():
        pytest.skip("there is no GPU")
    split = digits.split("train").take(SAMPLES)
    expected = by_cpu(attack)
    with pretend_cuda(rounds=True) if where == "pretend" else contextlib.nullcontext():
        assert where == "cuda" or tf32_is_on()
        made = attacked(ensemble, split, GPU, attack, speed)
    assert len(made.samples.y) == SAMPLES
    assert (made.samples.status != ERROR).all()
    standing = [run.samples.prediction == run.samples.y for run in (expected, made)]
    assert 0.2 < standing[0].mean() < 0.8, "many samples are near where they break"
    differing = int((standing[0] != standing[1]).sum())
    print(f"{where}, {speed}, {attack.name}: {differing} of {SAMPLES} verdicts differ")
    assert differing <= 1
    changed = (np.abs(made.samples.examples - expected.samples.examples) > 1e-6).reshape(
        len(expected.samples.examples), -1
    )
    print(f"images that differ: {changed.any(1).mean():.1%}")


def tf32_is_on() -> bool:
    """Return whether the pretend GPU, left to itself, would round a convolution to TF32."""
    x = torch.rand(1, 1, 8, 8, generator=torch.Generator().manual_seed(0))
    weight = torch.rand(1, 1, 3, 3, generator=torch.Generator().manual_seed(1))
    there = torch.nn.functional.conv2d(x.to(GPU), weight.to(GPU)).cpu()
    return not torch.equal(there, torch.nn.functional.conv2d(x, weight))
