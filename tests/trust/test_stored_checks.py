"""The checks that read stored runs alone: thresholds, and what counts as evidence."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import trust_by_hand as by_hand
from trust_by_hand import N, make

from robustkit.records.cells import Run
from robustkit.records.samples import CARRIED, CONFIRMED, ERROR, MISSED, OK, OVER_BUDGET
from robustkit.trust import Evidence, Scored, judge


def outcome(run: Scored, *others: Scored) -> tuple[str, dict[str, bool]]:
    return by_hand.outcome(by_hand.about(run, *others))


def some(code: int, count: int) -> np.ndarray:
    status = np.zeros(N, np.int64)
    status[:count] = code
    return status


def test_a_converged_attack_alone_is_trusted():
    verdict, checks = outcome(make(first=100))
    assert verdict == "trusted"
    stored = {"completed", "within-budget", "optimisation-finished", "silent-success", "sound-set-up"}
    assert set(checks) == {*stored, "holds-against-outsiders", "tried-by-others"}
    # Without a single fact of the model the same run is no more than unchecked.
    run = make(first=100)
    verdict, checks = by_hand.outcome(Evidence.of(run, [run]))
    assert verdict == "unchecked"
    assert set(checks) == {*stored, "tried-by-others"}


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
    advice = [c["advice"] for c in judge(Evidence.of(short, [short, make(steps=100, broken=broken_by_longer)]))[1]]
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


def test_a_minimum_norm_run_breaks_what_lies_within_each_budget():
    """Samples 0 ... 99 are broken, sample i by a perturbation of (i + 1) / 1000."""
    sizes = (np.arange(N) + 1).astype(np.float32) / 1000
    runs = {eps: make("fmn", eps=None, at=eps, steps=None, linf=sizes) for eps in (0.0, 0.05, 0.1, 0.5)}
    assert {eps: int((~run.standing).sum()) for eps, run in runs.items()} == {0.0: 0, 0.05: 50, 0.1: 100, 0.5: 100}
    crashed = make("fmn", eps=None, at=0.05, steps=None, linf=sizes, status=some(ERROR, 200) - OK)
    assert not crashed.standing.any()
    assert "optimisation-finished" not in outcome(make("fmn", eps=None, at=0.05, first=100, linf=sizes))[1]


def test_optimisation_is_not_judged_by_ten_steps_or_fewer():
    assert "optimisation-finished" not in outcome(make(steps=10, first=100, speed=1))[1]
    assert outcome(make(steps=11, first=100, speed=1))[1]["optimisation-finished"] is False


def test_a_loss_that_never_moved_has_nothing_left_to_gain():
    assert outcome(make(first=100, history=np.zeros((40, 101), np.float32)))[1]["optimisation-finished"]


def test_the_running_best_counts_not_where_the_loss_is_now():
    """It jumps up and down for ever, but found nothing new after step 11."""
    history = np.zeros((40, 31), np.float32)
    history[:, 1::2] = 1.0
    assert outcome(make(steps=30, first=100, history=history))[1]["optimisation-finished"]
    history[:, 25] = 1.2
    _, checks = judge(Evidence.of(run := make(steps=30, first=100, history=history), [run]))
    (found,) = [c for c in checks if c["name"] == "optimisation-finished"]
    assert found["value"] == pytest.approx(0.2 / 1.2)
    assert not found["passed"]


def test_samples_whose_history_has_gaps_are_left_out():
    history = np.tile(np.linspace(0, 1, 31, dtype=np.float32), (40, 1))
    history[:, 20] = np.nan
    assert "optimisation-finished" not in outcome(make(steps=30, first=100, history=history))[1]


def test_one_attack_of_twice_the_steps_is_longer_not_stronger():
    short, long = make(steps=50), make("mim", steps=100, broken=150)
    checks = outcome(short, long)[1]
    assert "no-stronger-attack" not in checks
    assert not checks["iterations-suffice"]
    assert outcome(short, make("mim", steps=99, broken=150))[1]["no-stronger-attack"] is False


NARROW = {"gamma": 0.1, "limit": "steps", "movable": "room"}


def jsma_run(broken: int, **params: object) -> Scored:
    return make("jsma", eps=None, steps=None, broken=broken, norm="l0", at=1.0, params={**NARROW, **params})


def test_where_any_image_is_allowed_what_stands_tells_where_the_attack_stopped():
    run = jsma_run(broken=10)
    verdict, checks = judge(by_hand.about(run, classes=10, largest=1.0))
    assert verdict == "suspect"
    (found,) = [c for c in checks if not c["passed"]]
    assert (found["name"], found["value"], found["threshold"]) == ("limited-by-eps", 190 / N, 0.1)
    assert found["advice"].endswith("run --set jsma.gamma=1.0 --set jsma.limit=features")
    worst = judge(Evidence(None, [run], 1.0, "l0", classes=10, largest=1.0))
    assert worst[0] == "suspect"
    assert judge(by_hand.about(run, classes=10, largest=1.01))[0] == "trusted"
    widest = jsma_run(broken=10, gamma=1.0, limit="features")
    (found,) = [c for c in judge(by_hand.about(widest, classes=10, largest=1.0))[1] if not c["passed"]]
    assert "--set" not in found["advice"]
    enough = jsma_run(broken=180)
    assert judge(by_hand.about(enough, classes=10, largest=1.0))[0] == "trusted"
