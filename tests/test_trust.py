"""Each check passes on one set of stored runs and fails on another, by construction."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from robustkit.records import CARRIED, CONFIRMED, ERROR, HERE, MISSED, OK, OVER_BUDGET, Cell, Run, Samples, Spec
from robustkit.trust import Evidence, Scored, judge

N = 200


def make(
    name: str = "pgd", eps: float = 0.1, steps: int | None = 100, broken: int = 100, first: int = 0, **more
) -> Scored:
    """A run on N samples that breaks ``broken`` of them, from index ``first`` on."""
    params = {} if steps is None else {"steps": steps}
    y = np.zeros(N, np.int64)
    fused = np.tile(np.array([0.0, -5.0], np.float32), (N, 1))
    fused[first : first + broken] = [-5.0, 0.0]
    zeros, history = np.zeros(N, np.int64), np.zeros((0, 0), np.float32)
    if steps is not None:
        history = np.tile(1 - np.exp(-np.arange(steps + 1) / (steps / more.pop("speed", 20))), (20, 1)).astype(
            np.float32
        )
        history = np.concatenate([history, history])[:40]
    samples = Samples(
        ids=np.arange(N), y=y, target=y - 1, member_logits=fused[None], fused=fused, l0=fused[:, 0], l1=fused[:, 0],
        l2=fused[:, 0], linf=fused[:, 0], forwards=zeros, backwards=zeros, seconds=fused[:, 0],
        status=more.pop("status", zeros + OK), carried=more.pop("carried", zeros + HERE), history=history,
        examples=np.zeros((0,), np.float32),
    )  # fmt: skip
    return Scored(Run(Cell("attack", "e", "d", Spec("attack", name, params), eps, "linf", **more), samples), eps)


def outcome(run: Scored, *others: Scored) -> tuple[str, dict[str, bool]]:
    verdict, checks = judge(Evidence(run, [run, *others]))
    assert all(bool(c["advice"]) != c["passed"] for c in checks)
    return verdict, {c["name"]: c["passed"] for c in checks}


def some(code: int, count: int) -> np.ndarray:
    status = np.zeros(N, np.int64)
    status[:count] = code
    return status


def test_a_converged_attack_alone_is_trusted():
    verdict, checks = outcome(make(first=100))
    assert verdict == "trusted"
    assert checks == {"completed": True, "within-budget": True, "optimisation-finished": True}


def test_crashed_samples_make_it_invalid_and_never_stand():
    run = make(broken=0, status=some(ERROR, 50))
    assert run.standing.sum() == 150
    verdict, checks = outcome(run)
    assert verdict == "invalid"
    assert not checks["completed"]


def test_leaving_the_budget_is_suspect():
    verdict, checks = outcome(make(status=some(OVER_BUDGET, 1)))
    assert verdict == "suspect"
    assert not checks["within-budget"]


@pytest.mark.parametrize(("speed", "passed"), [(20, True), (1.0, False)])
def test_optimisation_that_still_rises_is_suspect(speed: float, passed: bool):
    verdict, checks = outcome(make(first=100, speed=speed))
    assert checks["optimisation-finished"] is passed
    assert (verdict == "trusted") is passed


def test_broken_samples_do_not_count_as_unfinished():
    """Only samples that still stand could profit from more steps."""
    run = make(first=0, broken=N, speed=1.0)
    assert "optimisation-finished" not in outcome(run)[1]


@pytest.mark.parametrize(("broken_by_longer", "passed"), [(102, True), (103, False), (150, False), (60, True)])
def test_a_longer_attack_that_breaks_more_than_a_point(broken_by_longer: int, passed: bool):
    short = make(steps=10)
    verdict, checks = outcome(short, make(steps=100, broken=broken_by_longer))
    assert checks["iterations-suffice"] is passed
    assert (verdict == "trusted") is passed
    advice = [c["advice"] for c in judge(Evidence(short, [short, make(steps=100, broken=broken_by_longer)]))[1]]
    assert passed or any("--set pgd.steps=100" in a for a in advice)


def test_only_runs_at_least_twice_as_long_at_the_same_budget_are_evidence():
    run = make(steps=60)
    others = [
        make(steps=100, broken=200),
        make(steps=120, broken=200, eps=0.2),
        make(steps=120, broken=200, target="random"),
    ]
    assert "iterations-suffice" not in outcome(run, *others)[1]
    longer = make(steps=120, broken=200).run
    other_norm = Scored(Run(replace(longer.cell, norm="l2"), longer.samples), 0.1)
    assert "iterations-suffice" not in outcome(run, other_norm)[1]


def test_a_single_step_attack_is_measured_against_iterative_ones():
    fgsm = make("fgsm", steps=None, broken=100)
    assert outcome(fgsm, make(broken=101))[1]["iterations-suffice"]
    verdict, checks = outcome(fgsm, make(broken=150))
    assert verdict == "suspect"
    assert not checks["iterations-suffice"]


@pytest.mark.parametrize(("broken_by_other", "passed"), [(102, True), (103, False), (50, True)])
def test_another_attack_of_similar_length_that_breaks_more(broken_by_other: int, passed: bool):
    verdict, checks = outcome(make(), make("apgd-ce", broken=broken_by_other))
    assert checks["no-stronger-attack"] is passed
    assert (verdict == "trusted") is passed
    assert "no-stronger-attack" not in outcome(make(), make("apgd-ce", broken=200, eps=0.2))[1]


@pytest.mark.parametrize(("broken_at_smaller", "passed"), [(90, True), (102, True), (110, False)])
def test_robust_accuracy_that_rises_with_eps(broken_at_smaller: int, passed: bool):
    _, checks = outcome(make(eps=0.2, first=100), make(eps=0.1, broken=broken_at_smaller))
    assert checks["stronger-with-eps"] is passed


@pytest.mark.parametrize(("missed", "passed"), [(0, True), (2, True), (3, False), (20, False)])
def test_what_a_larger_eps_could_not_break_again_counts_as_standing(missed: int, passed: bool):
    carried = some(CARRIED, 100)
    carried[:40], carried[:missed] = CONFIRMED, MISSED
    larger, smaller = make(eps=0.2, broken=103, carried=carried), make(eps=0.1, broken=100)
    _, checks = outcome(larger, smaller)  # stands: 3 fewer of 200, and 2.5 of 100 more for each that was missed
    assert checks["stronger-with-eps"] is passed


@pytest.mark.parametrize(("first", "passed"), [(0, True), (2, True), (60, False)])
def test_samples_that_only_fgsm_breaks(first: int, passed: bool):
    _, checks = outcome(make(), make("fgsm", steps=None, first=first))
    assert checks["iterative-beats-single-step"] is passed
