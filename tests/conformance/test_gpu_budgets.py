"""How often the host may wait for a GPU, and launch: budgets of every gradient attack, of Square, and of a pass.

Counted on the pretend GPU; a training's budget is in ``tests/training``. A wait or launch that is new makes a budget
fail, and the failure names its line.
"""

from __future__ import annotations

from collections import Counter
from typing import Any

import pytest
import torch
from accelerator import Accelerator, pretend_cuda
from test_attacks import make
from torch import Tensor

from robustkit import attacks, models
from robustkit.attacks import attack
from robustkit.attacks._ascent import Best
from robustkit.base.registry import Entry
from robustkit.ensembles import fastpath
from robustkit.ensembles.ensemble import Ensemble, Member
from robustkit.functional.sampling import SampleGenerator
from robustkit.functional.trace import Trace

GPU = torch.device("cuda:0")
SHORT, LONG = 4, 14  # steps, whose difference is counted
EPS = {"linf": 0.02, "l2": 0.1, "l1": 0.5, "l0": 5.0}
FEW = {
    "restarts": 1,
    "search_steps": 1,
    "population": 1,
    "generations": 1,
    "targets": 1,
    "queries": 4,
    "initial_c": 1.0,
}
# Waits of a step or query, in the first norm, of two members. What makes several runs one after another, against other
# fusions or by other attacks, makes a step of each. Half a wait is a look at who is done, a tenth one at gradients.
BUDGETS = {
    "adaptive-pgd": 0.2, "apgd-ce": 0.75, "apgd-dlr": 0.75, "apgd-t": 0.75, "arc": 3.0, "autoattack": 4.0,
    "bim": 0.75, "cw": 2.0, "ddn": 0.2, "deepfool": 2.0, "ead": 3.0, "fab": 2.0, "fmn": 0.2, "fusion-swap": 5 * 0.75,
    "mim": 0.75, "mora": 0.75, "pdpgd": 0.2, "pgd": 0.75, "quorum": 0.75, "rays": 0.75,
    "nearest": 4.0, "recombine": 9 * 0.75, "sigma-zero": 2.0, "square": 0.75,
}  # fmt: skip
STEPS = [entry for entry in attack if {"steps", "queries"} & {p.name for p in entry.params}]


def ensemble(count: int = 2) -> tuple[Ensemble, Tensor, Tensor]:
    """Members that differ, and images of their own labels: some fall at once, some later, some never."""
    members = []
    for seed in range(count):
        network, x, _ = make(3, 8, 8, batch=24)
        torch.manual_seed(seed)
        network.fc.weight.data += 0.05 * torch.randn_like(network.fc.weight)
        members.append(network)
    model = Ensemble(members).eval().requires_grad_(False)
    return model, x, model(x).argmax(1)


def settings(entry: Entry) -> dict[str, Any]:
    names, norm = {p.name for p in entry.params}, entry.facts["norms"][0]
    given = {**FEW, "norm": norm, "eps": EPS[norm]}
    return {name: value for name, value in given.items() if name in names}


def counted(gpu: Accelerator, entry: Entry, **more: Any) -> Counter[str]:
    """Return how many waits so many steps more make, by line."""
    model, x, y = ensemble()
    model, x, y = model.to(GPU), x.to(GPU), y.to(GPU)
    name = "steps" if any(p.name == "steps" for p in entry.params) else "queries"
    found = []
    for count in (SHORT, LONG):
        draws, trace = SampleGenerator(0, torch.arange(len(x)), entry.name), Trace(len(x), keep=4)
        gpu.clear()
        attacks.get(entry.name)(model, x, y, **{**settings(entry), **more, name: count}, generator=draws, trace=trace)
        found.append(gpu.waits.copy())
    few, many = found
    return Counter({line: many[line] - few[line] for line in {*few, *many} if many[line] != few[line]})


def within(found: Counter[str], steps: int, budget: float) -> None:
    per_step = {line: count / steps for line, count in found.most_common()}
    assert sum(per_step.values()) <= budget, per_step


def test_every_attack_of_steps_has_a_budget():
    assert {entry.name for entry in STEPS} == {*BUDGETS}


@pytest.mark.parametrize("entry", STEPS, ids=lambda entry: entry.name)
def test_waits_of_an_attack(entry: Entry):
    with pretend_cuda() as gpu:
        within(counted(gpu, entry), LONG - SHORT, BUDGETS[entry.name])


def test_a_run_in_which_nobody_leaves_is_not_looked_at():
    with pretend_cuda() as gpu:
        within(counted(gpu, attack.entry("pgd"), stop_early=False), LONG - SHORT, 0.1)


def test_a_new_wait_fails_its_budget_and_is_named(monkeypatch: pytest.MonkeyPatch):
    update = Best.update

    def slower(self: Best, rows: Tensor, *given: Any) -> None:
        update(self, rows, *given)
        bool(self.won.all())

    monkeypatch.setattr(Best, "update", slower)
    with (
        pretend_cuda() as gpu,
        pytest.raises(AssertionError, match=r"attacks/_ascent.py:\d+ _local_scalar_dense': 1.0"),
    ):
        within(counted(gpu, attack.entry("pgd")), LONG - SHORT, BUDGETS["pgd"])


def launches(gpu: Accelerator, model: Ensemble, x: Tensor) -> int:
    point = x.detach().requires_grad_()
    gpu.clear()
    torch.autograd.grad(model(point).amax(1).sum(), point)
    return sum(gpu.launches.values())


def test_launches_of_a_pass(monkeypatch: pytest.MonkeyPatch):
    """Of three ResNet-20 as they were, 459 with input gradient; where times decide nothing, members are stacked."""
    monkeypatch.setattr(fastpath, "_seconds", lambda *_: 1.0)
    model = Ensemble([Member(models.build("resnet20", 3, 10, {})) for _ in range(3)]).eval().requires_grad_(False)
    with pretend_cuda() as gpu:
        x = torch.rand((4, 3, 32, 32)).to(GPU)
        model.to(GPU)
        made = fastpath.prepare(model, x)
        assert made.chosen == fastpath.STACKED
        assert made.launched, "there are no CUDA graphs here, and that is said"
        assert launches(gpu, made.exact, x) <= 0.35 * 459
