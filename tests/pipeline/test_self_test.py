"""Every planted fault is caught by the check that must catch it, and sound ensembles are trusted: over three seeds.

Networks of twelve hundred parameters on digits, 50 test images, eps 0.1, the checks at their quick level.
"""

from __future__ import annotations

import functools
import io
import json
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from filelock import FileLock
from rich.console import Console
from tiny_net import trained

from robustkit import data
from robustkit.attacks import attack
from robustkit.base.progress import Reporter
from robustkit.ensembles.ensemble import Ensemble
from robustkit.evaluation.cell import RunOptions
from robustkit.pipeline import selftest
from robustkit.pipeline.selftest import PROPER
from robustkit.trust import _faults as faults
from robustkit.trust import check
from robustkit.trust._plan import FEWEST

EPS, SAMPLES, SEEDS = 0.1, 50, (0, 1, 2)
NAMED = {
    "logits-x-1e4": "not-saturated", "quantised": "gradients-available", "random-noise": "deterministic",
    "softmax-as-logits": "logits-not-probabilities", "clamped-log": "logits-not-probabilities",
    "jpeg": "gradients-available", "max-fusion": "fusion-swap", "purifies": "static-forward",
    "crossmax": "holds-against-outsiders", "drawn-members": "drawn-members",
    "two-steps": "iterations-suffice", "returns-x": "planted-vulnerability", "leaves-the-ball": "within-budget",
}  # fmt: skip
INVALID = {
    "logits-x-1e4",
    "quantised",
    "random-noise",
    "jpeg",
    "returns-x",
}  # an attack that fails even without a budget
SMALL = {"max-fusion"}  # hides one sample in twenty: in 32, as many as quick looks at, that is no evidence yet
# Seed 0 is attacked as the self-test attacks; the others with less, after which it is harder to be trusted, not easier.
FEWER = (("pgd", {"steps": 100, "restarts": 2}), ("apgd-dlr", {"steps": 50}), ("square", {"queries": 400}))
USUAL, SHORTER = (("pgd", {"steps": 100, "restarts": 2}),), (("pgd", {"steps": 50, "restarts": 1}),)  # of faults
SETTING = RunOptions(torch.device("cpu"), keep_examples=False, speed="off")


def shorter() -> tuple[faults.Fault, ...]:
    """Return the planted faults, those that are attacked as usual with a quarter of the passes."""
    return tuple(replace(one, attacks=SHORTER) if one.attacks == USUAL else one for one in faults.faults())


@pytest.fixture(scope="module")
def outcome(digits: data.Dataset, shared_folder: Path) -> Iterator[Callable[[int, str], selftest.Outcome]]:
    """What is said of one fault or sound model, evaluated once for all workers of pytest-xdist."""

    @functools.cache
    def ensemble(seed: int, eps: float) -> Ensemble:
        return trained(digits, seed, eps)

    def said(seed: int, name: str) -> selftest.Outcome:
        patch.setattr(selftest, "PROPER", PROPER if seed == 0 else FEWER)
        patch.setattr(selftest, "faults", faults.faults if seed == 0 else shorter)
        file = shared_folder / f"outcome-{seed}-{name.replace(': ', '-')}.json"
        with FileLock(file.with_suffix(".lock")):
            if not file.is_file():
                sound = {"adv": ensemble(seed, EPS)} if name == "sound: adv" else {}
                (found,) = selftest.run(
                    ensemble(seed, 0.0), digits, SETTING, Reporter(), sound=sound, only=[name], eps=EPS, n=SAMPLES,
                    seed=seed, trust="quick",
                )  # fmt: skip
                file.write_text(json.dumps(found.to_json()))
        kept = json.loads(file.read_text())
        assert kept.pop("right") is (found := selftest.Outcome(**{**kept, "failed": tuple(kept["failed"])})).right
        return found

    with pytest.MonkeyPatch.context() as patch:
        yield said


def test_the_planted_faults_are_those_of_the_design():
    assert sum(fault.attacks == SHORTER for fault in shorter()) == 9
    assert {fault.name: fault.caught_by for fault in faults.faults()} == NAMED
    assert set(NAMED.values()) <= set(check.names())


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize("name", [name for name in NAMED if name not in SMALL])
def test_every_planted_fault_is_caught_by_the_right_check(outcome, seed: int, name: str):
    found = outcome(seed, name)
    assert NAMED[name] in found.failed
    assert found.right
    assert found.verdict == ("invalid" if name in INVALID else "suspect")


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize("name", ["sound: plain", "sound: adv"])
def test_a_sound_model_properly_attacked_is_trusted(outcome, seed: int, name: str):
    found = outcome(seed, name)
    assert (found.verdict, found.failed) == ("trusted", ())
    assert found.right
    assert 0.2 < found.robust_accuracy < 0.85  # neither so weak nor so strong that there is nothing to check


@pytest.mark.parametrize("seed", SEEDS)
def test_robust_accuracy_is_lower_than_what_the_faults_pretend(outcome, seed: int):
    """The same members, attacked properly, stand far less often: the faults are worth catching."""
    true = outcome(seed, "sound: plain").robust_accuracy
    for name in ("quantised", "two-steps", "returns-x"):
        assert outcome(seed, name).robust_accuracy > true + 0.2


@pytest.mark.parametrize(("seed", "level"), [(0, "full"), (1, "quick"), (2, "quick")])
def test_max_fusion_is_caught_where_enough_samples_are_looked_at(
    digits: data.Dataset, seed: int, level: str, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setitem(FEWEST, level, 150)
    plain = trained(digits, seed, members=3)
    (found,) = selftest.run(
        plain, digits, SETTING, Reporter(), only=["max-fusion"], eps=EPS, n=150, seed=seed, trust=level
    )
    assert "fusion-swap" in found.failed
    assert found.verdict == "suspect"


def test_outcomes_say_what_was_caught_and_what_was_missed():
    caught = selftest.Outcome("a", "w", "fusion-swap", "suspect", ("fusion-swap", "stable-loss"), 0.5)
    other = selftest.Outcome("b", "w", "fusion-swap", "suspect", ("stable-loss",), 0.5)
    sound, doubted = (selftest.Outcome("c", "", "", v, (), 0.5) for v in ("trusted", "suspect"))
    assert [o.right for o in (caught, other, sound, doubted)] == [True, False, True, False]
    assert caught.to_json()["failed"] == ["fusion-swap", "stable-loss"]
    console = Console(width=200, file=io.StringIO())
    console.print(selftest.table([caught, other, sound, doubted]))
    lines = [line for line in console.file.getvalue().splitlines() if "50.0" in line]
    words = ["caught", "missed", "trusted", "missed"]
    assert all(word in line for word, line in zip(words, lines, strict=True))


def test_faulty_attacks_are_known_only_within():
    with faults.registered():
        assert "self-test-idle" in attack.names()
    assert "self-test-idle" not in attack.names()
    with pytest.raises(ZeroDivisionError), faults.registered():
        1 / 0  # noqa: B018
    assert "self-test-twice" not in attack.names()
