"""What is required held against the numbers: one gate for each requirement of each number."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from robustkit.base.errors import UserError
from robustkit.gates.numbers import Number, meant, numbers_of
from robustkit.records.schema import ORDER, Numbers, Verdict
from robustkit.study.requirements import WORST, listed, parse

LEAST: Verdict = "suspect"  # of what --min names: nobody should quote an invalid number


@dataclass(frozen=True)
class Gate:
    """One requirement of one number: whether it holds, and a sentence that says what was found.

    ``kind`` is ``threshold`` (``--min``), ``verdict`` (``--require``) or ``baseline``; ``required`` is what was asked.
    """

    kind: Literal["threshold", "verdict", "baseline"]
    required: str
    ensemble: str
    what: str
    passed: bool
    said: str


@dataclass(frozen=True)
class Outcome:
    """All gates of one evaluation, and whence: the ``results.json`` and what it holds; ``notes`` qualify the gates."""

    path: Path
    results: Numbers
    gates: list[Gate]
    notes: tuple[str, ...] = ()

    @property
    def missed(self) -> list[Gate]:
        """The gates that do not hold."""
        return [gate for gate in self.gates if not gate.passed]

    @property
    def sentence(self) -> str:
        """How many gates hold, and what was found where they do not."""
        if not self.missed:
            return f"all {len(self.gates)} requirements hold."
        first = "; ".join(gate.said for gate in self.missed[:3])
        more = f"; and {len(self.missed) - 3} more" if len(self.missed) > 3 else ""
        return f"{len(self.missed)} of {len(self.gates)} requirements missed: {first}{more}."


def thresholds(results: Numbers, minimum: str | Iterable[str] | None, require: Verdict | None) -> list[Gate]:
    """Return the gates of thresholds and verdicts.

    A verdict is required of every number that a threshold names, ``suspect`` where nobody says more; without such a
    number, of every worst case.

    Raises
    ------
    UserError
        If a requirement is about no number that there is.
    """
    numbers = numbers_of(results)
    gates: list[Gate] = []
    named: list[Number] = []
    for one in map(parse, listed(minimum)):
        for number in meant(one, numbers):
            holds = one.holds(number.value)
            said = f"{number}{'' if holds else f', but {one.operator} {100 * one.share:.4g} % is required'}"
            gates.append(Gate("threshold", one.text, number.ensemble, number.what, holds, said))
            named += [number] if number not in named and number.verdict else []
    if require and not named:
        named = [number for number in numbers if number.names == (WORST,)]
        if not named:
            raise UserError(f"--require {require} is of attacked numbers, and there is none; leave it out.")
    return [*gates, *_verdicts(named, require or LEAST, bool(require))]


def _verdicts(numbers: Sequence[Number], least: Verdict, said: bool) -> Iterator[Gate]:
    """Yield the gates of verdicts, those that hold only where a verdict was asked for."""
    for number in numbers:
        verdict = number.verdict or ORDER[0]
        holds = ORDER.index(verdict) <= ORDER.index(least)
        if holds and not said:
            continue
        failed = ", ".join(check["name"] for check in number.checks if not check["passed"])
        why = f" ({failed})" if failed and not holds else ""
        asked = least if least == ORDER[0] else f"{least} or better"
        text = f"{number}{'' if holds else f'{why}, but {asked} is required'}"
        yield Gate("verdict", f"verdict of at least {least}", number.ensemble, number.what, holds, text)
