"""The schedule: longest rest first, a chain in its order, three tries, and what a failed piece takes with it."""

from __future__ import annotations

import random

import pytest

from robustkit.evaluation.executors._schedule import Schedule, Step


def order(schedule: Schedule) -> list[str]:
    """Run everything on one worker."""
    found = []
    while (key := schedule.take()) is not None:
        found.append(key)
        schedule.done(key)
    return found


def test_the_longest_is_first_and_equals_keep_their_order():
    steps = [Step("b", 2), Step("a", 1), Step("d", 5), Step("c", 2)]
    assert order(Schedule(steps)) == ["d", "b", "c", "a"]


def test_what_follows_counts_for_what_it_waits_for():
    # The chain of four short ones is longer than the long one; the clean cell opens everything.
    chain = [Step("1", 3, "clean"), Step("2", 3, "1"), Step("3", 3, "2"), Step("4", 3, "3")]
    schedule = Schedule([Step("long", 10, "clean"), *reversed(chain), Step("clean", 1), Step("free", 12.5)])
    assert [schedule.take(), schedule.take(), schedule.take()] == ["clean", "free", None]
    assert (schedule.ready, schedule.running, schedule.waiting) == (0, 2, 5)
    schedule.done("clean")
    assert [schedule.take(), schedule.take(), schedule.take()] == ["1", "long", None]
    assert not schedule.over


def test_no_piece_starts_before_the_one_that_it_waits_for():
    chance = random.Random(1)
    steps = [Step(str(at), chance.random(), str(chance.randrange(at)) if at and at % 5 else "") for at in range(500)]
    after = {step.key: step.after for step in steps}
    mixed = chance.sample(steps, len(steps))
    schedule, running, ended = Schedule(mixed), [], set()
    while not schedule.over:
        while len(running) < 7 and (key := schedule.take()) is not None:
            assert not after[key] or after[key] in ended
            running.append(key)
        ended.add(one := running.pop(chance.randrange(len(running))))
        schedule.done(one)
    assert len(ended) == 500


def test_a_lost_piece_runs_again_before_others_and_fails_at_the_third_loss():
    schedule = Schedule([Step("long", 9), Step("short", 1), Step("next", 1, "short"), Step("last", 1, "next")])
    assert schedule.take() == "long"
    schedule.done("long")
    assert schedule.take() == "short"
    schedule.add([Step("other", 50)])
    assert schedule.lost("short", "the node died")
    assert schedule.take() == "short"
    assert schedule.lost("short", "the node died again")
    assert schedule.take() == "short"
    assert schedule.tries("short") == 3
    assert not schedule.lost("short", "and again")
    assert schedule.failures == dict.fromkeys(["short", "next", "last"], "and again")
    assert order(schedule) == ["other"]
    assert schedule.over


def test_a_failure_takes_what_follows_and_nothing_else():
    schedule = Schedule([Step("a"), Step("b", 1, "a"), Step("c", 1, "b"), Step("d")])
    assert schedule.take() == "a"
    assert schedule.failed("a", "no memory") == ["a", "b", "c"]
    assert order(schedule) == ["d"]
    assert schedule.over
    schedule.add([Step("e", 1, "c"), Step("f", 1, "d")])
    assert schedule.failures["e"] == "no memory"
    assert order(schedule) == ["f"]


def test_pieces_may_be_added_while_others_run():
    schedule = Schedule([Step("a", 1)])
    assert schedule.take() == "a"
    schedule.add([Step("b", 1, "a"), Step("c", 4)])
    assert schedule.take() == "c"
    assert schedule.take() is None
    schedule.done("a")
    assert schedule.take() == "b"


@pytest.mark.parametrize(
    ("steps", "said"),
    [
        ([Step("a"), Step("a")], "'a' is there twice"),
        ([Step("a", 1, "b")], "'a' waits for 'b', which is not there"),
        ([Step("a", 1, "b"), Step("b", 1, "a"), Step("c")], "in a circle: a, b"),
    ],
)
def test_what_cannot_be_scheduled_is_refused(steps, said):
    with pytest.raises(ValueError, match=said):
        Schedule(steps)
