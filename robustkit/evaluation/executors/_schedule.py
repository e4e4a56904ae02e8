"""Which piece of a plan is next: the longest rest of a chain first, lost pieces again, three times. No torch, no Ray.

Pieces that wait for another form trees: a training, then its clean cell, then every attack's chain of budgets. Of those
that are ready the one with the longest way to the end of its tree is started first ("highest level first", Hu 1961, of
which longest-processing-time-first is the case without any tree): the longest chain then never begins last. Nothing
here knows what a piece is, who works or what time it is, so that a simulation can drive the same code.
"""

from __future__ import annotations

import heapq
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

TRIES = 3  # of a piece whose worker or node dies
READY, RUNNING, WAITING, DONE, FAILED = "ready", "running", "waiting", "done", "failed"


@dataclass(frozen=True)
class Step:
    """One piece, as the schedule sees it.

    ``cost`` is how long it takes, in any unit that all pieces share; ``after`` is the key of the piece whose result it
    needs, empty where it needs none.
    """

    key: str
    cost: float = 1.0
    after: str = ""


class Schedule:
    """The pieces of a plan: which are ready, which run, which wait for another, which are over.

    It is not locked: one thread uses it, or each use is under a lock of the caller's.

    Parameters
    ----------
    steps : iterable of Step
        In any order.
    tries : int
        How often a piece is started at most.
    """

    def __init__(self, steps: Iterable[Step] = (), tries: int = TRIES) -> None:
        self.failures: dict[str, str] = {}  # why, by the key of the piece
        self._tries = tries
        self._state: dict[str, str] = {}
        self._count = dict.fromkeys((READY, RUNNING, WAITING, DONE, FAILED), 0)
        self._rest: dict[str, float] = {}  # cost of the longest way to the end, the piece itself included
        self._followers: dict[str, list[str]] = {}
        self._starts: dict[str, int] = {}
        self._heap: list[tuple[bool, float, int, str]] = []
        self._order = 0
        self.add(steps)

    def add(self, steps: Iterable[Step]) -> None:
        """Take in further pieces; what they wait for is among them or was added before.

        Raises
        ------
        ValueError
            If a key is there already, or a piece waits for one that nobody knows or, in a circle, for itself.
        """
        new: dict[str, Step] = {}
        for step in steps:
            if step.key in new or step.key in self._state:
                raise ValueError(f"piece '{step.key}' is there twice")
            new[step.key] = step
        for step in new.values():
            if step.after and step.after not in new and step.after not in self._state:
                raise ValueError(f"piece '{step.key}' waits for '{step.after}', which is not there")
        for key in reversed(_first_to_last(new)):  # what comes after a piece has its length already
            self._rest[key] = new[key].cost + max((self._rest[f] for f in self._followers.get(key, ())), default=0.0)
            if after := new[key].after:
                self._followers.setdefault(after, []).append(key)
        for key, step in new.items():
            before = self._state.get(step.after, WAITING if step.after else DONE)
            if before == FAILED:
                self._enter(key, FAILED)
                self.failures[key] = self.failures[step.after]
            elif before == DONE:
                self._queue(key)
            else:
                self._enter(key, WAITING)

    @property
    def ready(self) -> int:
        """How many could be started now."""
        return self._count[READY]

    @property
    def running(self) -> int:
        """How many have been started and have not ended."""
        return self._count[RUNNING]

    @property
    def waiting(self) -> int:
        """How many need the result of another first."""
        return self._count[WAITING]

    @property
    def over(self) -> bool:
        """Whether every piece is done or has failed."""
        return not (self.ready or self.running or self.waiting)

    def take(self) -> str | None:
        """Start the ready piece with the longest rest; None where none is ready."""
        while self._heap:
            *_, key = heapq.heappop(self._heap)
            if self._state[key] == READY:  # it may have failed meanwhile
                self._enter(key, RUNNING)
                self._starts[key] = self._starts.get(key, 0) + 1
                return key
        return None

    def done(self, key: str) -> None:
        """Note that a piece has ended; what waited for it is ready."""
        self._enter(key, DONE)
        for follower in self._followers.pop(key, ()):
            if self._state.get(follower) == WAITING:
                self._queue(follower)

    def lost(self, key: str, cause: str) -> bool:
        """Note that a piece's worker died; return whether it is tried again, else it has failed."""
        if self._starts.get(key, 0) >= self._tries:
            self.failed(key, cause)
            return False
        self._queue(key, again=True)
        return True

    def failed(self, key: str, cause: str) -> list[str]:
        """Note that a piece cannot be done; return its key and those of all that would have needed it."""
        keys = [key]
        for one in keys:
            keys += self._followers.pop(one, ())
            self._enter(one, FAILED)
            self.failures[one] = cause
        return keys

    def tries(self, key: str) -> int:
        """Return how often a piece has been started."""
        return self._starts.get(key, 0)

    def _queue(self, key: str, again: bool = False) -> None:
        """Make a piece ready; one that runs again goes before all others, whose chains are no longer for the delay."""
        self._enter(key, READY)
        heapq.heappush(self._heap, (not again, -self._rest[key], self._order, key))
        self._order += 1

    def _enter(self, key: str, state: str) -> None:
        if key in self._state:
            self._count[self._state[key]] -= 1
        self._state[key] = state
        self._count[state] += 1


def _first_to_last(steps: Mapping[str, Step]) -> list[str]:
    """Return the keys so that each comes after the one that it waits for."""
    followers: dict[str, list[str]] = {}
    for step in steps.values():
        followers.setdefault(step.after if step.after in steps else "", []).append(step.key)
    found = list(followers.get("", ()))
    for key in found:
        found += followers.get(key, ())
    if len(found) < len(steps):
        raise ValueError("pieces wait for each other in a circle: " + ", ".join(sorted(set(steps) - set(found))))
    return found
