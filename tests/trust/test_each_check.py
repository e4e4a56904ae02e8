"""Every registered check passes on evidence with nothing wrong and fails on evidence with one thing wrong."""

from __future__ import annotations

import re
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from in_process import parsed
from trust_by_hand import N, about, failed, make, outcome, probed, samples, tried

from robustkit.attacks import attack
from robustkit.pipeline import request
from robustkit.records.cells import Spec
from robustkit.records.samples import ERROR, OVER_BUDGET
from robustkit.study.config import EvaluateConfig
from robustkit.trust import ORDER, Evidence, Scored, check, judge, remedies


def some(code: int, count: int) -> np.ndarray:
    return np.where(np.arange(N) < count, code, 0)


RUN = make(first=100)  # breaks the last 100 of 200; the first 100, which probes look at, stand


def drawn(first: int, name: str = "pgd", **more: Any) -> Scored:
    """A run on an ensemble whose members are drawn."""
    return replace(make(name, first=first, broken=N - first, **more), clean=samples([]))


LONGER = {"steps": 200, "restarts": 5}

# name: evidence at the threshold, which passes, and just beyond it, which fails.
CASES: dict[str, tuple[Evidence, Evidence]] = {
    "completed": (about(RUN), about(make(first=100, status=some(ERROR, 1)))),
    "deterministic": (
        about(RUN, facts={"repeats": probed(difference=1e-4, flipped=0)}),
        about(RUN, facts={"repeats": probed(difference=1.1e-4, flipped=0)}),
    ),
    "drawn-members": (
        about(drawn(100), drawn(98, "arc", steps=20)),
        about(drawn(100)),
    ),
    "fusion-swap": (
        about(RUN, facts={"swap": probed(broken=1)}),
        about(RUN, facts={"swap": probed(broken=2)}),
    ),
    "gradients-available": (
        about(RUN, facts={"gradient": probed(zero=1, not_finite=0)}),
        about(RUN, facts={"gradient": probed(zero=2, not_finite=0)}),
    ),
    "gradients-finite": (
        about(RUN, facts={"gradient": probed(zero=0, not_finite=0)}),
        about(RUN, facts={"gradient": probed(zero=0, not_finite=1)}),
    ),
    "holds-against-outsiders": (
        about(RUN, facts={"outsider": tried(broken=np.arange(N) < 2)}),
        about(RUN, facts={"outsider": tried(broken=np.arange(N) < 3)}),
    ),
    "iterations-suffice": (
        about(RUN, facts={"longer": probed(broken=1, params=LONGER)}),
        about(RUN, facts={"longer": probed(broken=2, params=LONGER)}),
    ),
    "iterative-beats-single-step": (
        about(RUN, make("fgsm", steps=None, first=98)),
        about(RUN, make("fgsm", steps=None, first=97)),
    ),
    "limited-by-eps": (
        about(make(eps=1.0, broken=160), classes=5, largest=1.0),
        about(make(eps=1.0, broken=159), classes=5, largest=1.0),
    ),
    "logits-not-probabilities": (
        about(RUN, facts={"outputs": probed(probabilities=1, clamped=1)}),
        about(RUN, facts={"outputs": probed(probabilities=1, clamped=2)}),
    ),
    "no-stronger-attack": (
        about(RUN, make("apgd-ce", first=98, broken=102)),
        about(RUN, make("apgd-ce", first=97, broken=103)),
    ),
    "not-saturated": (
        about(RUN, facts={"saturation": probed(saturated=1)}),
        about(RUN, facts={"saturation": probed(saturated=2)}),
    ),
    "optimisation-finished": (about(make(first=100, speed=20)), about(make(first=100, speed=1))),
    "planted-vulnerability": (
        about(RUN, facts={"planted": probed(usable=10, missed=1)}),
        about(RUN, facts={"planted": probed(usable=10, missed=2)}),
    ),
    "restarts-suffice": (
        about(RUN, facts={"other-starts": probed(broken=1)}),
        about(RUN, facts={"other-starts": probed(broken=2)}),
    ),
    "sound-set-up": (about(RUN), about(RUN, doubts=["normalisation: none (two passes differ)"])),
    "stable-loss": (
        about(RUN, facts={"stability": probed(change=0.5)}),
        about(RUN, facts={"stability": probed(change=0.51)}),
    ),
    "static-forward": (
        about(RUN, facts={"forward": probed(looked=True, autograd=0, loops=0)}),
        about(RUN, facts={"forward": probed(looked=True, autograd=0, loops=1)}),
    ),
    "stronger-with-eps": (
        about(make(eps=0.2, first=100), make(eps=0.1, first=98, broken=102)),
        about(make(eps=0.2, first=100), make(eps=0.1, first=97, broken=103)),
    ),
    "tried-by-others": (about(RUN), about(RUN, outsider="")),
    "unbounded-attack-wins": (
        about(RUN, facts={"unbounded": probed(standing=20)}, classes=5),
        about(RUN, facts={"unbounded": probed(standing=21)}, classes=5),
    ),
    "white-box-beats-black-box": (
        about(RUN, facts={"gradient-free": probed(broken=1), "from-others": probed(broken=1)}),
        about(RUN, facts={"gradient-free": probed(broken=1), "from-others": probed(broken=2)}),
    ),
    "white-box-beats-noise": (
        about(RUN, facts={"corners": probed(200, broken=np.arange(200) == 7)}),
        about(RUN, facts={"corners": probed(200, broken=(np.arange(200) == 7) | (np.arange(200) == 9))}),
    ),
    "within-budget": (about(RUN), about(make(first=100, status=some(OVER_BUDGET, 1)))),
}
NEVER_FAILS = {"silent-success"}  # it informs: the best iterate is what counts
INVALID = {"completed", "deterministic", "gradients-finite", "unbounded-attack-wins"}
UNCHECKED = {"tried-by-others"}
LEAVES = {
    **dict.fromkeys(CASES, "suspect"),
    **dict.fromkeys(INVALID, "invalid"),
    **dict.fromkeys(UNCHECKED, "unchecked"),
}


def test_every_registered_check_is_here():
    assert set(check.names()) == set(CASES) | NEVER_FAILS
    left = {name: {e.name for e in check if e.facts.get("leaves") == name} for name in ("invalid", "unchecked")}
    assert left == {"invalid": INVALID, "unchecked": UNCHECKED}


def test_verdicts_from_best_to_worst():
    assert ORDER == ("trusted", "unchecked", "suspect", "invalid")


def test_an_attack_for_drawn_members_that_ran_is_not_advised_again():
    (found,) = [c for c in judge(about(drawn(100), drawn(80, "arc", steps=20)))[1] if c["name"] == "drawn-members"]
    assert found["advice"].endswith(": arc breaks more: quote the worst case")
    (found,) = [c for c in judge(about(drawn(100)))[1] if c["name"] == "drawn-members"]
    assert found["advice"].endswith(": run robustkit evaluate --attacks arc")


@pytest.mark.parametrize("name", CASES)
def test_passes_at_its_threshold(name: str):
    verdict, checks = outcome(CASES[name][0])
    assert checks[name]
    assert verdict == "trusted"


@pytest.mark.parametrize("name", CASES)
def test_fails_beyond_it_alone_and_says_so(name: str):
    assert failed(CASES[name][1]) == {name}
    verdict, checks = judge(CASES[name][1])
    assert verdict == LEAVES[name]
    own = next(c for c in checks if c["name"] == name)
    assert own["value"] > own["threshold"]
    assert type(own["value"]) is type(own["threshold"]) is float


def test_an_invalid_number_stays_invalid_whatever_else_fails():
    facts = {"gradient": probed(zero=0, not_finite=1), "swap": probed(broken=50), "corners": probed(broken=50)}
    verdict, checks = outcome(about(RUN, facts=facts))
    assert verdict == "invalid"
    assert not checks["fusion-swap"]
    assert not checks["white-box-beats-noise"]


def renamed(run: Scored, name: str) -> Scored:
    """The same run by another attack, if it is of pgd."""
    if run.name != "pgd":
        return run
    kept = {k: v for k, v in run.run.cell.attack.params.items() if k in attack.entry(name).defaults()}
    return Scored(replace(run.run, cell=replace(run.run.cell, attack=Spec("attack", name, kept))), run.eps)


@pytest.mark.parametrize("name", CASES)
@pytest.mark.parametrize("by", ["pgd", "mim", "apgd-ce", "fusion-swap", "fmn", "square"])
def test_every_option_that_an_advice_names_is_one_that_can_be_given(name: str, by: str):
    evidence = CASES[name][1]
    runs = [renamed(run, by) for run in evidence.siblings]
    shown = {"facts": evidence.facts, "classes": evidence.classes, "doubts": evidence.doubts, "outsider": ""}
    for found in (about(*runs, **shown), about(None, *runs, **shown, eps=evidence.eps)):
        for finding in judge(found)[1]:
            before, run, rest = finding["advice"].partition("robustkit evaluate ")
            if run:
                assert before.endswith((" run ", ", "))
                asked_for = parsed(run + rest)
                assert (found.run is None) == asked_for.escalate
                request.check(asked_for)
            else:
                assert "--attacks" not in finding["advice"]  # no half of a command
                settings = re.findall(r"--set (\S+)", finding["advice"])
                attacks = ",".join(s.partition(".")[0] for s in settings) or None
                request.check(EvaluateConfig(attacks=attacks, dataset="digits", settings=settings))


@pytest.mark.parametrize("name", CASES)
def test_what_is_advised_to_escalate_has_a_whole_configuration(name: str):
    for failing, finding in remedies(CASES[name][1]):
        assert failing == name
        for spec in finding.remedy:
            own = {k: v for k, v in spec.params.items() if k != "eot"}
            assert own == request.configured(attack, spec.name, {spec.name: own}).params
            assert own.get("step_size") is None  # of a budget of its own: what follows must suit any


def test_silent_success_counts_who_fell_below_its_best_and_never_fails():
    history = np.tile(np.array([0.0, 1.0, 1.0], np.float32), (40, 1))
    history[:10, 2] = 0.9  # a tenth of the range down
    history[10:20, 2] = 0.96  # less than a twentieth
    (found,) = [c for c in judge(about(make(steps=2, history=history)))[1] if c["name"] == "silent-success"]
    assert found["value"] == pytest.approx(10 / 40)
    assert found["passed"]
    history[:, 2] = 0.0
    (found,) = [c for c in judge(about(make(steps=2, history=history)))[1] if c["name"] == "silent-success"]
    assert (found["value"], found["passed"], found["advice"]) == (1.0, True, "")


# --- thresholds, one sample, rows


@pytest.mark.parametrize(("probe", "name"), [
    ("swap", "fusion-swap"), ("longer", "iterations-suffice"), ("gradient-free", "white-box-beats-black-box"),
    ("from-others", "white-box-beats-black-box"), ("other-starts", "restarts-suffice"),
])  # fmt: skip
@pytest.mark.parametrize(("n", "broken", "passed"), [
    (32, 1, True), (32, 2, False), (99, 1, True), (200, 2, True), (200, 3, False),
])  # fmt: skip
def test_one_sample_is_no_evidence_and_one_in_a_hundred_is_allowed(
    probe: str, name: str, n: int, broken: int, passed: bool
):
    everyone = make(broken=0)
    facts = {probe: probed(n, broken=broken, params=LONGER)}
    assert outcome(about(everyone, facts=facts))[1][name] is passed
    assert outcome(about(None, everyone, facts=facts))[1][name] is passed


@pytest.mark.parametrize(("n", "broken", "passed"), [(32, 0, True), (32, 1, False), (200, 1, True), (200, 2, False)])
def test_noise_that_breaks_a_single_sample_of_few_is_evidence(n: int, broken: int, passed: bool):
    facts = {"corners": probed(n, broken=np.arange(n) < broken)}
    assert outcome(about(make(broken=0), facts=facts))[1]["white-box-beats-noise"] is passed


@pytest.mark.parametrize(("probe", "name"), [
    ("swap", "fusion-swap"), ("longer", "iterations-suffice"), ("gradient-free", "white-box-beats-black-box"),
    ("from-others", "white-box-beats-black-box"), ("corners", "white-box-beats-noise"),
    ("other-starts", "restarts-suffice"),
])  # fmt: skip
def test_what_the_number_does_not_count_as_robust_cannot_be_held_against_it(probe: str, name: str):
    facts = {probe: probed(broken=np.arange(100) < 50, params=LONGER)}
    assert not outcome(about(make(broken=0), facts=facts))[1][name]
    assert outcome(about(make(broken=50), facts=facts))[1][name]
    assert not outcome(about(make(broken=48), facts=facts))[1][name]


def test_means_are_over_the_rows_that_were_looked_at():
    facts = {"saturation": probed(100, rows=10, saturated=np.arange(100) == 3)}  # one of ten
    (found,) = [c for c in judge(about(RUN, facts=facts))[1] if c["name"] == "not-saturated"]
    assert found["value"] == pytest.approx(0.1)
    nothing = {"unbounded": probed(100, rows=0), "stability": probed(100, rows=0), "repeats": probed(100, rows=0)}
    assert failed(about(RUN, facts=nothing)) == set()


def test_planted_shares_are_of_the_heads_that_could_be_made():
    facts = {"planted": probed(100, usable=np.arange(100) < 4, missed=np.arange(100) < 1)}
    (found,) = [c for c in judge(about(RUN, facts=facts))[1] if c["name"] == "planted-vulnerability"]
    assert (found["value"], found["passed"]) == (0.25, False)
    none = {"planted": probed(100, usable=0, missed=0)}
    assert "planted-vulnerability" not in outcome(about(RUN, facts=none))[1]


def test_a_flipped_label_is_randomness_however_small_the_difference():
    facts = {"repeats": probed(difference=0.0, flipped=1)}
    assert outcome(about(RUN, facts=facts)) == (
        "invalid", {**outcome(about(RUN))[1], "deterministic": False}
    )  # fmt: skip


@pytest.mark.parametrize("classes", [2, 10])
def test_guessing_is_one_in_the_number_of_classes(classes: int):
    facts = {"unbounded": probed(standing=100 // classes)}
    assert outcome(about(RUN, facts=facts, classes=classes))[1]["unbounded-attack-wins"]
    assert not outcome(about(RUN, facts=facts, classes=classes + 1))[1]["unbounded-attack-wins"]


# --- what does not apply

EVERYTHING = {
    "repeats": probed(difference=1.0, flipped=50), "swap": probed(broken=50), "corners": probed(broken=50),
    "longer": probed(broken=50, params=LONGER), "gradient": probed(zero=50, not_finite=50),
    "outputs": probed(probabilities=50, clamped=50), "saturation": probed(saturated=50),
    "planted": probed(usable=50, missed=50), "stability": probed(change=1.0), "unbounded": probed(standing=100),
    "gradient-free": probed(broken=50), "from-others": probed(broken=50),
    "forward": probed(looked=True, autograd=4, loops=0),
    "outsider": tried(broken=np.arange(N) % 2 == 1),
}  # fmt: skip
BY_PROBES = {
    "deterministic", "fusion-swap", "holds-against-outsiders", "white-box-beats-noise", "iterations-suffice",
    "gradients-available",
    "gradients-finite", "logits-not-probabilities", "not-saturated", "planted-vulnerability", "stable-loss",
    "static-forward", "unbounded-attack-wins", "white-box-beats-black-box",
}  # fmt: skip


def test_without_facts_only_stored_runs_are_judged():
    assert failed(about(RUN, facts=EVERYTHING)) == BY_PROBES
    assert not BY_PROBES & set(outcome(about(RUN, outsider=""))[1])


def test_a_targeted_number_is_not_measured_by_what_reaches_any_label():
    aimed = make(broken=0, target="random")
    assert BY_PROBES - failed(about(aimed, facts=EVERYTHING)) == {
        "fusion-swap", "holds-against-outsiders", "white-box-beats-noise", "iterations-suffice",
        "white-box-beats-black-box",
    }  # fmt: skip


def test_a_gradient_free_attack_needs_no_gradients():
    square = make("square", steps=None, broken=0, params={"queries": 5000})
    missing = BY_PROBES - failed(about(square, facts=EVERYTHING))
    assert missing == {
        "gradients-available", "gradients-finite", "stable-loss", "static-forward", "white-box-beats-black-box",
        "not-saturated",
    }  # fmt: skip
    # Beside a gradient attack, the worst case of both needs them.
    both = outcome(about(None, square, RUN, facts=EVERYTHING))[1]
    assert not both["gradients-available"]


@pytest.mark.parametrize(("name", "params", "asked"), [
    ("pgd", {"loss": "ce"}, True), ("apgd-ce", {}, True), ("fgsm", {"loss": "ce"}, True),
    ("torchattacks:PGD", {}, True), ("pgd", {"loss": "dlr"}, False), ("pgd", {"loss": "margin"}, False),
    ("apgd-dlr", {}, False), ("cw", {}, False),
])  # fmt: skip
def test_saturation_matters_to_cross_entropy_alone(name: str, params: dict, asked: bool):
    run = make(name, params=params, broken=0)
    facts = {"saturation": probed(saturated=100)}
    assert ("not-saturated" in failed(about(run, facts=facts))) is asked
    # One loss that saturation does not blind vouches for the worst case.
    assert ("not-saturated" in failed(about(None, run, RUN, facts=facts))) is asked


def test_averaged_attacks_may_meet_a_randomised_model():
    facts = {"repeats": probed(difference=1.0, flipped=50)}
    assert "deterministic" not in outcome(about(make(eot=2), facts=facts))[1]
    assert "deterministic" in failed(about(make(eot=1), facts=facts))
    # In the worst case one averaged attack is enough.
    assert "deterministic" not in outcome(about(None, make(), make(eot=20), facts=facts))[1]


def test_a_probe_of_too_few_steps_says_nothing_about_a_longer_run():
    facts = {"longer": probed(broken=50, params={"steps": 20})}
    assert outcome(about(make(steps=10, broken=0), facts=facts))[1]["iterations-suffice"] is False
    assert "iterations-suffice" not in outcome(about(make(steps=11, broken=0), facts=facts))[1]
    assert "iterations-suffice" not in outcome(about(None, make(steps=10), make(steps=11), facts=facts))[1]


# --- the worst case


@pytest.mark.parametrize("name", sorted(BY_PROBES - {"planted-vulnerability", "unbounded-attack-wins"}))
def test_the_worst_case_is_judged_by_the_same_facts(name: str):
    good, bad = (about(None, RUN, facts=e.facts, classes=e.classes) for e in CASES[name])
    assert failed(good) == set()
    assert failed(bad) == {name}
    assert judge(bad)[0] == LEAVES[name]


def test_the_worst_case_is_asked_for_what_concerns_its_longest_run_and_for_no_other_run():
    runs = [make(first=100, speed=1), make("fgsm", steps=None, first=90), make(eps=0.2, broken=50)]
    assert outcome(about(None, *runs)) == (
        "suspect", {
            "completed": True, "holds-against-outsiders": True, "within-budget": True, "optimisation-finished": False,
            "sound-set-up": True, "tried-by-others": True,
        },
    )  # fmt: skip
    settled = [make(first=100), make("fgsm", steps=None, first=90)]
    assert outcome(about(None, *settled))[1]["optimisation-finished"]


def test_a_crash_in_any_run_of_the_worst_case_makes_it_invalid():
    assert judge(about(None, RUN, make("mim", status=some(ERROR, 1))))[0] == "invalid"
    assert judge(about(None, RUN, make("mim", eps=0.2, status=some(ERROR, 1))))[0] == "trusted"  # another budget
    assert judge(about(None, RUN, make("mim", status=some(OVER_BUDGET, 1))))[0] == "suspect"


def test_the_worst_case_counts_what_every_run_left_standing():
    evidence = about(None, make(broken=60), make("mim", first=50, broken=60), make(eps=0.2, broken=N))
    assert evidence.standing.sum() == N - 110
    aimed = make("fgsm", steps=None, first=110, broken=10, target="random")
    assert about(None, make(broken=60), aimed).standing.sum() == N - 70


def test_a_worst_case_is_not_asked_which_of_its_runs_it_owes_its_points_to():
    """That the longest run broke more says nothing of still longer ones: probes look, and stored runs are no doubt."""
    short, long = make(steps=10, first=100), make(steps=100, first=50, broken=150)
    assert "iterations-suffice" not in outcome(about(None, short, long))[1]
    assert judge(about(None, short, long))[0] == "trusted"
    assert "iterations-suffice" in failed(about(short, long))  # but of the short run alone
    facts = {"longer": probed(broken=np.arange(100) < 2, params={"steps": 200})}
    assert "iterations-suffice" not in failed(about(None, short, make(steps=100), facts=facts))  # broken here already
    everyone = (make(steps=10, broken=0), make(steps=100, broken=0))
    assert failed(about(None, *everyone, facts=facts)) == {"iterations-suffice"}
    too_short = {"longer": probed(broken=np.arange(100) < 2, params={"steps": 199})}
    assert failed(about(None, *everyone, facts=too_short)) == set()


def test_the_remedy_does_not_depend_on_how_many_steps_were_taken():
    for steps in (10, 400):
        facts = {"longer": probed(broken=50, params={"steps": 2 * steps})}
        ((_, finding),) = remedies(about(None, make(steps=steps, broken=0), facts=facts))
        (spec,) = finding.remedy
        assert (spec.name, spec.params["restarts"]) == ("quorum", 12)


def test_an_unfinished_attack_is_to_run_four_times_as_long():
    [found] = [c for c in judge(about(make(first=100, speed=1)))[1] if c["name"] == "optimisation-finished"]
    assert found["advice"] == "the loss still rises: run it longer, --set pgd.steps=400"  # it had 100
