"""Gates as a Markdown summary, for a pull request or the summary page of a job."""

from __future__ import annotations

from robustkit.gates.judging import Outcome
from robustkit.gates.numbers import numbers_of
from robustkit.reports import _format as f
from robustkit.reports._table import Cell, Table, cells
from robustkit.reports.md import escape, markdown
from robustkit.study.requirements import CLEAN, WORST

KINDS = {"threshold": "--min", "verdict": "--require", "baseline": "--against-baseline"}


def text(outcome: Outcome) -> str:
    """Return the summary: whether everything holds, a row a gate, the numbers, and what to do about doubtful ones."""
    results, missed = outcome.results, len(outcome.missed)
    data = results["dataset"]
    head = f"{missed} of {len(outcome.gates)} requirements missed" if missed else "all requirements hold"
    parts = [
        f"## robustkit: {head}",
        f"{escape(data['name'])}, {data['split']} split, n = {data['n']}, robustkit {results['robustkit_version']}",
        *map(escape, outcome.notes),
        markdown(_gates(outcome)).strip(),
        markdown(_numbers(outcome)).strip(),
    ]
    advice = _advice(outcome)
    return "\n\n".join([*parts, *(["### What to run next", advice] if advice else [])]) + "\n"


def _gates(outcome: Outcome) -> Table:
    rows = [
        cells("holds" if gate.passed else "MISSED", KINDS[gate.kind], gate.required, gate.said)
        for gate in sorted(outcome.gates, key=lambda gate: gate.passed)
    ]
    return Table("gates", "Requirements", ["", "option", "required", "found"], "llll", rows)


def _numbers(outcome: Outcome) -> Table:
    rows = [
        [*cells(number.ensemble, number.what, f"{f.percent(number.value)} {f.interval(number.ci95)}"),
         Cell(number.verdict or f.NONE)]
        for number in numbers_of(outcome.results) if number.names[0] in (WORST, CLEAN)
    ]  # fmt: skip
    return Table("numbers", "Numbers", ["model", "number", "%", "verdict"], "llrl", rows, "Wilson 95 % intervals.")


def _advice(outcome: Outcome) -> str:
    """Return the advice of failing checks of worst cases, each once."""
    found = [
        f"{check['name']}: {check['advice']}"
        for number in numbers_of(outcome.results)
        if number.names == (WORST,)
        for check in number.checks
        if not check["passed"] and check["advice"]
    ]
    return "\n".join(f"- {escape(one)}" for one in dict.fromkeys(found))
