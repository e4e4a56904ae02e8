"""Every attack, defence and corruption on a GPU: a pretend one, where all numbers are the CPU's, and a real one if any.

Nobody has to tell this suite about a new one. On the pretend GPU (``tests/accelerator.py``) nothing differs by a bit;
on a real one sums round otherwise, so that there images and weights agree closely and verdicts nearly always.
"""

from __future__ import annotations

import contextlib
import copy
from dataclasses import dataclass, replace
from typing import Any

import pytest
import torch
from accelerator import pretend_cuda
from test_attacks import CASES, members, settings
from test_corruptions import images
from torch import Tensor, nn

from robustkit import attacks, corruptions, data, defenses
from robustkit.base.registry import REQUIRED, Entry
from robustkit.corruptions import corruption
from robustkit.ensembles.ensemble import Ensemble
from robustkit.functional.sampling import SampleGenerator
from robustkit.functional.trace import Trace
from robustkit.records.cells import Spec
from robustkit.training.forward import LAYOUT, PLAIN, STACKED
from robustkit.training.loop import fit
from robustkit.training.spec import TrainSpec

GPU = torch.device("cuda:0")
CHEAPER = {"steps": 4, "queries": 16, "search_steps": 2, "population": 2, "generations": 1}  # than in test_attacks


@dataclass(frozen=True)
class Device:
    """Where a test runs, and whether that is a real GPU."""

    real: bool

    def there(self) -> contextlib.AbstractContextManager[object]:
        """Return within what it is used. What the CPU does is computed outside of it, as it is without a GPU."""
        return contextlib.nullcontext() if self.real else pretend_cuda()

    def same(self, made: Tensor, expected: Tensor, share: float = 1.0, atol: float = 1e-4) -> None:
        """Check that a result is on the GPU, and the CPU's: by every bit, or (really) that share of its elements."""
        assert made.device == GPU
        assert made.dtype == expected.dtype
        if self.real:
            close = torch.isclose(made.cpu(), expected, rtol=1e-4, atol=atol)
            assert float(close.float().mean()) >= share
        else:
            assert torch.equal(made.cpu(), expected)


@pytest.fixture(params=["pretend", "cuda"])
def gpu(request: pytest.FixtureRequest) -> Device:
    if request.param == "cuda" and not torch.cuda.is_available():
        pytest.skip("there is no GPU")
    return Device(request.param == "cuda")


class ByRow(nn.Linear):
    """A linear layer whose rounding does not depend on how many rows there are, as that of a CPU's product does.

    On a GPU samples that are done ride along, so that batches are larger there.
    """

    def forward(self, x: Tensor) -> Tensor:
        return (x[:, None] * self.weight).sum(2) + self.bias


def attacked(entry: Entry, norm: str, model: Ensemble, x: Tensor, y: Tensor, **more: Any) -> tuple[Tensor, Trace]:
    trace = Trace(len(x), keep=4)
    generator, given = SampleGenerator(3, torch.arange(len(x)), entry.name), settings(entry, norm)
    given |= {name: value for name, value in CHEAPER.items() if name in given}
    made = attacks.get(entry.name)(model, x, y, **given, **more, generator=generator, trace=trace)
    return made, trace


WAYS = [(entry, norm, False) for entry, norm in CASES]
WAYS += [(e, e.facts["norms"][0], True) for e in attacks.attack if any(p.name == "targeted" for p in e.params)]


@pytest.mark.parametrize(("entry", "norm", "aimed"), WAYS, ids=[f"{e.name}-{n}{'-targeted' * t}" for e, n, t in WAYS])
def test_attack(entry: Entry, norm: str, aimed: bool, gpu: Device):
    model, x, y = members()
    for module in model.modules():
        if type(module) is nn.Linear:
            module.__class__ = ByRow
    labels, more = ((y + 1) % 5, {"targeted": True}) if aimed else (y, {})
    expected, before = attacked(entry, norm, model, x, labels, **more)
    verdicts = model(expected).argmax(1)
    with gpu.there():
        on = copy.deepcopy(model).to(GPU)
        made, trace = attacked(entry, norm, on, x.to(GPU), labels.to(GPU), **more)
        gpu.same(made, expected, share=0.9)
        if gpu.real:
            assert float((on(made).argmax(1).cpu() == verdicts).float().mean()) >= 0.9
        else:
            assert torch.equal(trace.forwards, before.forwards)
            assert torch.equal(trace.backwards, before.backwards)
            assert torch.equal(trace.history.nan_to_num(-1), before.history.nan_to_num(-1))


@pytest.mark.parametrize("entry", list(corruption), ids=lambda entry: entry.name)
def test_corruption(entry: Entry, gpu: Device):
    x, rows = images(4), torch.arange(4)
    for severity in (1, 5):
        expected = corruptions.get(entry.name)(x, severity, generator=SampleGenerator(3, rows, "gpu"))
        with gpu.there():
            made = corruptions.get(entry.name)(x.to(GPU), severity, generator=SampleGenerator(3, rows, "gpu"))
            gpu.same(made, expected, share=0.98, atol=1.01 / 255)


def trained(
    entry: Entry, loaded: data.Dataset, device: torch.device, way: str, outliers: data.Dataset, **more: Any
) -> dict[str, Tensor]:
    """Return what one short epoch makes of the weights and statistics."""
    required = {p.name: "digits" for p in entry.params if p.default is REQUIRED}
    cheap = {"steps": 2} if any(p.name == "steps" for p in entry.params) else {}
    spec = TrainSpec(
        Spec("defense", entry.name, {**entry.defaults(), **required, **cheap}), "digits", "sha", "networks:normed",
        members=2, epochs=2 if entry.facts.get("one_by_one") else 1, batch_size=8, **more,
    )  # fmt: skip
    needs = defenses.method(entry.name, spec.defense.params).facts.get("needs", ())
    return fit(
        spec, loaded, device=device, way=way, outliers=outliers if "outliers" in needs else None
    ).ensemble.state_dict()


@pytest.fixture(scope="module")
def handful(few_digits: data.Dataset) -> data.Dataset:
    """Two batches to train on, and two to validate."""
    source = replace(few_digits.source, read=lambda name: few_digits.split(name).take(16))
    return replace(few_digits, source=source, _splits={})


@pytest.mark.parametrize("entry", list(defenses.defense), ids=lambda entry: entry.name)
def test_defense(entry: Entry, handful: data.Dataset, gpu: Device):
    expected = trained(entry, handful, torch.device("cpu"), PLAIN, handful)
    with gpu.there():
        made = trained(entry, handful, GPU, PLAIN, handful)
        for name, value in made.items():
            gpu.same(value.to(GPU), expected[name], share=0.99, atol=0.02)  # Adam's first steps have the sign of noise


@pytest.mark.parametrize("way", [LAYOUT, f"{LAYOUT}, {STACKED}"])
@pytest.mark.parametrize("optimiser", ["adam", "sgd", "adabelief"])
def test_ways_and_optimisers(way: str, optimiser: str, handful: data.Dataset, gpu: Device):
    entry = defenses.defense.entry("adp")
    expected = trained(entry, handful, torch.device("cpu"), way, handful, optimiser=optimiser, ema=0.9)
    with gpu.there():
        made = trained(entry, handful, GPU, way, handful, optimiser=optimiser, ema=0.9)
        for name, value in made.items():
            gpu.same(value.to(GPU), expected[name], share=0.99, atol=0.02)
