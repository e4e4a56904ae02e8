"""A plan in numbers and words: cells, trainings, passes, seconds. Never imports torch."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field


@dataclass(frozen=True)
class Plan:
    """What a study will do.

    Attributes
    ----------
    what : str
        In a few words: the data, the ensembles.
    cells, stored : int
        Independent pieces, and how many of them the store has already.
    trainings, cached : int
        Trainings, and how many of them have been done before.
    forwards, backwards : float
        Passes of an ensemble in all, an image each.
    seconds : mapping of str to float
        How long each stage takes, about.
    """

    what: str
    cells: int = 0
    stored: int = 0
    trainings: int = 0
    cached: int = 0
    forwards: float = 0.0
    backwards: float = 0.0
    seconds: Mapping[str, float] = field(default_factory=dict)

    @property
    def total(self) -> float:
        """Seconds in all, about."""
        return sum(self.seconds.values())

    def sentence(self) -> str:
        """Return the plan in one line."""
        parts = [f"{self.trainings - self.cached} to train" + (f" ({self.cached} in the cache)" if self.cached else "")]
        cells = f"{self.cells} cells" + (f" ({self.stored} in the store)" if self.stored else "")
        parts = ([cells] if self.cells else []) + (parts if self.trainings else [])
        return f"{', '.join(parts)}: about {duration(self.total)}"

    def lines(self) -> list[str]:
        """Return the plan in full, a line each."""
        found = [self.what, f"  {self.sentence()}"]
        if self.forwards:
            found.append(f"  {count(self.forwards)} forward and {count(self.backwards)} backward passes of an image")
        found += [f"  {name}: {duration(seconds)}" for name, seconds in self.seconds.items() if seconds >= 0.5]
        return found


def together(plans: Iterable[Plan]) -> Plan:
    """Return several plans as one."""
    plans = list(plans)
    seconds: dict[str, float] = {}
    for plan in plans:
        for name, value in plan.seconds.items():
            seconds[name] = seconds.get(name, 0.0) + value
    return Plan(
        f"{len(plans)} runs", sum(p.cells for p in plans), sum(p.stored for p in plans),
        sum(p.trainings for p in plans), sum(p.cached for p in plans), sum(p.forwards for p in plans),
        sum(p.backwards for p in plans), seconds,
    )  # fmt: skip


def duration(seconds: float) -> str:
    """Return a time as people say it: ``40 s``, ``12 min``, ``3.5 h``."""
    if seconds < 90:
        return f"{max(1, round(seconds))} s"
    if seconds < 90 * 60:
        return f"{round(seconds / 60)} min"
    return f"{seconds / 3600:.1f} h" if seconds < 100 * 3600 else f"{seconds / 86400:.0f} days"


def count(number: float) -> str:
    """Return a large number in words: ``1.2 million``."""
    for size, word in ((1e9, "billion"), (1e6, "million"), (1e3, "thousand")):
        if number >= size:
            return f"{number / size:.3g} {word}"
    return f"{number:.0f}"


class Planned(Exception):  # noqa: N818 - no error: the plan was all that was asked for
    """Carries the plan out of a run that was to be planned only."""

    def __init__(self, plan: Plan) -> None:
        super().__init__(plan.what)
        self.plan = plan
