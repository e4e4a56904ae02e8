"""What a user types: every way to get it wrong is answered with one sentence that names it."""

from __future__ import annotations

import pytest

from robustkit.attacks import attack
from robustkit.base import options
from robustkit.base.errors import UserError


def test_numbers():
    assert options.number("8/255") == 8 / 255
    assert options.number(" 0.5 ") == 0.5


def test_names():
    assert options.names("pgd, mim,pgd", attack) == ("pgd", "mim")
    with pytest.raises(UserError, match="unknown attack 'pdg': did you mean 'pgd'"):
        options.names("pdg", attack)
    with pytest.raises(UserError, match="the list of attacks is empty; write some of: .*pgd"):
        options.names(" , ", attack)


def test_assignments():
    assert options.assignments(["pgd.steps=50", "adp.alpha=1"]) == {"pgd": {"steps": "50"}, "adp": {"alpha": "1"}}
    assert options.assignments({"pgd.steps": 50}) == {"pgd": {"steps": 50}}
    for bad, message in (
        ("pgd.steps", "has no value"),
        ("steps=5", "names no method"),
        (".steps=5", "names no method"),
    ):
        with pytest.raises(UserError, match=message):
            options.assignments([bad])


def test_values_are_read_to_the_declared_types():
    entry = attack.entry("pgd")
    given = {"steps": "50", "step_size": "2/255", "random_start": "false", "loss": "dlr"}
    resolved = options.resolve(entry, given)
    assert resolved == {**entry.defaults(), "steps": 50, "step_size": 2 / 255, "random_start": False, "loss": "dlr"}
    assert isinstance(resolved["steps"], int)
    assert options.coerce(entry, "step_size", "none") is None


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        (
            "step",
            "5",
            "attack 'pgd' has no parameter 'step'; it takes .*steps: int = 10, step_size: float",
        ),
        ("steps", "2.5", "pgd.steps '2.5' is not a whole number"),
        ("steps", "0", "steps 0 is out of range; it must be in"),
        ("steps", "many", "pgd.steps 'many' is not a number"),
        ("step_size", "-1", "step_size -1 is out of range"),
        ("random_start", "maybe", "pgd.random_start 'maybe' is not a yes or no"),
        ("loss", "cw", "unknown pgd.loss 'cw': .*Known: ce, dlr, margin"),
    ],
)
def test_bad_values(name: str, value: str, message: str):
    with pytest.raises(UserError, match=message):
        options.resolve(attack.entry("pgd"), {name: value})
