"""Checks as a page shows them: an entry each, with its value for every number it was asked of."""

from __future__ import annotations

import string
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field

from robustkit.records.schema import ORDER, Check, Results, Verdict
from robustkit.reports import _format as f
from robustkit.reports._checks import UNNAMED, WORST, anchor, failed
from robustkit.reports._labels import Run, budget, budget_text, labeller, ordered
from robustkit.reports._table import Cell, Table, cells
from robustkit.trust import check as registry


@dataclass(frozen=True)
class Judged:
    """A number with its checks: whose it is, of which attack, and where the page explains it."""

    ensemble: str
    attack: str
    run: Run
    anchor: str

    @property
    def failed(self) -> list[Check]:
        """The checks that failed; one without a name for a number that is not trusted and says no reason."""
        return failed(self.run)

    def place(self, at: int) -> str:
        """Return the anchor of the reason number ``at`` of this number."""
        at %= max(len(self.failed), 1)
        return self.anchor + (f"-{at + 1}" if at else "")


@dataclass(frozen=True)
class Spot:
    """One number's outcome of a check. ``letter`` says which advice; ``more`` leads to its next reason, said so."""

    text: str
    limit: str
    passed: bool
    verdict: Verdict
    letter: str = ""
    anchor: str = ""
    more: str = ""
    said: str = ""


@dataclass
class Entry:
    """A check that failed: what it asks, its advice by letter, and its values by ensemble, eps and attack.

    Attributes
    ----------
    limit : str
        Above which value it fails, where that is the same for all numbers.
    attacks : list of str
        The columns; ``rows`` has for each ensemble and budget the spots under them, None where it was not asked.
    """

    check: str
    asks: str
    unit: str
    limit: str
    verdict: Verdict
    failed: int
    asked: int
    advices: list[tuple[str, str, int]]
    attacks: list[str] = field(default_factory=list)
    bands: list[tuple[str, list[tuple[str, list[Spot | None]]]]] = field(default_factory=list)


def judged(results: Results) -> list[Judged]:
    """Return the numbers of a report, the worst cases first, in the order of its tables."""
    label = labeller(results)
    order = {e["id"]: at for at, e in enumerate(ordered(results))}
    runs: list[tuple[str, Run]] = [(WORST, w) for w in results["worst_case"]]
    runs += [(label(e), e) for e in results["evaluations"]]
    runs.sort(key=lambda pair: (order.get(pair[1]["ensemble"], len(order)), *budget(pair[1])[::-1]))
    return [Judged(run["ensemble"], name, run, anchor(run)) for name, run in runs]


def entries(numbers: Sequence[Judged]) -> list[Entry]:
    """Return the checks that failed for any number: those that do the most harm first, then the commonest."""
    failures = defaultdict[str, list[tuple[Judged, Check]]](list)
    for number in numbers:
        for c in number.failed:
            failures[c["name"]].append((number, c))
    made = [_entry(name, numbers, found) for name, found in failures.items()]
    return sorted(made, key=lambda e: (-ORDER.index(e.verdict), -e.failed))


def _entry(name: str, numbers: Sequence[Judged], failures: Sequence[tuple[Judged, Check]]) -> Entry:
    show, unit = _unit(name)
    asked = [(n, c) for n in numbers for c in (*n.run["checks"], *n.failed) if c["name"] == name]
    asked = list({id(n): (n, c) for n, c in asked}.values())
    advices = Counter(c["advice"] for _, c in failures if c["advice"])
    letters = dict(zip(advices, _letters(), strict=False)) if len(advices) > 1 else {}
    limits = {show(c["threshold"]) for _, c in asked if name != UNNAMED}
    verdict = max((n.run["verdict"] for n, _ in failures), key=ORDER.index)
    told = [(letters.get(text, ""), text, count) for text, count in advices.items()]
    entry = Entry(
        name, registry.entry(name).summary if name in registry else "", unit, limits.pop() if len(limits) == 1 else "",
        verdict, len(failures), len(asked), told, list(dict.fromkeys(n.attack for n, _ in asked)),
    )  # fmt: skip
    spots = {(n.ensemble, budget_text(*budget(n.run)), n.attack): _spot(n, c, show, letters, entry) for n, c in asked}
    for ensemble in dict.fromkeys(n.ensemble for n, _ in asked):
        budgets = dict.fromkeys(at for one, at, _ in spots if one == ensemble)
        entry.bands.append((ensemble, [(b, [spots.get((ensemble, b, a)) for a in entry.attacks]) for b in budgets]))
    return entry


def _spot(n: Judged, c: Check, show: Callable[[float | None], str], letters: dict[str, str], entry: Entry) -> Spot:
    limit = "" if entry.limit or c["name"] == UNNAMED else show(c["threshold"])
    if c["passed"]:
        return Spot(show(c["value"]), limit, True, n.run["verdict"])
    names = [other["name"] for other in n.failed]
    at = names.index(c["name"])
    more, said = "", ""
    if len(names) > 1:
        more, said = n.place(at + 1), f"reason {at + 1} of {len(names)}"
    letter = letters.get(c["advice"], "")
    return Spot(show(c["value"]), limit, False, n.run["verdict"], letter, n.place(at), more, said)


def passed(numbers: Iterable[Judged]) -> Table | None:
    """Return the checks that every number passed, each with its value that came nearest to failing."""
    values = defaultdict[str, list[Check]](list)
    for number in numbers:
        for c in number.run["checks"]:
            values[c["name"]].append(c)
    rows = []
    for name, found in sorted(values.items()):
        if all(c["passed"] for c in found):
            show, unit = _unit(name)
            nearest = max(found, key=lambda c: (c["value"] or 0.0) - c["threshold"])
            asks = registry.entry(name).summary if name in registry else f.NONE
            about = cells(name, str(len(found)), show(nearest["value"]), show(nearest["threshold"]))
            rows.append([*about, *cells(unit or f.NONE), Cell(asks)])
    columns = ["check", "numbers", "nearest value", "fails above", "unit", "what it asks"]
    note = "Of each check the value that came nearest to failing, and above which it would have failed."
    return Table("passed", "Checks that every number passed", columns, "lrrrll", rows, note) if rows else None


def _unit(name: str) -> tuple[Callable[[float | None], str], str]:
    """Return how the values of a check are shown, and their unit: those of the table, unless it is registered so."""
    if name not in registry or registry.entry(name).facts.get("unit"):
        return f.number, str(registry.entry(name).facts["unit"]) if name in registry else ""
    return f.percent, "%"


def _letters() -> Iterator[str]:
    """Yield a, b, ..., z, aa, ab, ..."""
    size = len(string.ascii_lowercase)
    at = 0
    while True:
        yield ("" if at < size else string.ascii_lowercase[at // size - 1]) + string.ascii_lowercase[at % size]
        at += 1
