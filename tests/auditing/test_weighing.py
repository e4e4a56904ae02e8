"""The ways to run several members together, of which clean images refute none."""

from __future__ import annotations

from robustkit.auditing.adapting import Preprocessing
from robustkit.auditing.detecting import Detected
from robustkit.auditing.trials import Trial
from robustkit.auditing.weighing import MOST, choices_of, hows_of


def found(*names: str) -> Detected:
    trials = tuple(Trial(name, Preprocessing(mean=(float(at),)), 9, 1.0, 1.0, 0.0, ()) for at, name in enumerate(names))
    return Detected(Preprocessing(outputs="probabilities", columns=(1, 0)), (), trials, None, trials)


def test_members_are_combined_in_every_way():
    members = [found("none", "half"), found("mnist"), found("half", "mnist")]
    choices = choices_of(members)
    assert [name for name, _ in choices] == ["none+half", "none+mnist", "half+half", "half+mnist"]
    assert [[t.normalize for t in trials] for _, trials in choices][1] == ["none", "mnist", "mnist"]
    how = hows_of(members, choices[1][1])[2]
    assert (how.mean, how.outputs, how.columns) == ((1.0,), "probabilities", (1, 0))


def test_too_many_combinations_share_a_name():
    names = ("none", "half", "mnist", "cifar10", "clip")
    assert len(names) ** 2 > MOST
    choices = choices_of([found(*names), found(*names[1:], "svhn")])
    assert [name for name, _ in choices] == [*names, "svhn"]
    assert [[t.normalize for t in trials] for _, trials in choices][:2] == [["none", "half"], ["half", "half"]]


def test_one_way_is_no_choice():
    assert choices_of([found("none"), found("half")]) == []
