"""``robustkit check``. Never imports torch."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from rich.console import Console
from rich.text import Text

from robustkit.base.errors import GateError, UserError
from robustkit.gates import running
from robustkit.gates.judging import Gate, Outcome
from robustkit.study.config import CheckConfig
from robustkit.study.options_run import Gates


def check(config: CheckConfig) -> None:
    """Hold stored numbers against what is required of them; exit code 1 where it does not hold.

    Example: robustkit check robustkit-out --min 'worst_case@8/255>=0.30' --require trusted
    """
    outcome, written = running.run(config)
    show(outcome.gates, outcome.notes)
    for path in written:
        print(f"wrote {path}")
    fail(outcome)


def settle(config: Gates, folder: str | Path, last: str, quiet: bool = False) -> None:
    """Show the gates of an evaluation that is done, then its last line; a GateError where one was missed."""
    try:
        outcome = running.judged(config, folder) if running.asked(config) else None
    except UserError:
        print(last)  # what was evaluated is there, whatever was asked of it
        raise
    if outcome and not quiet:
        show(outcome.gates, outcome.notes)
    print(last)
    if outcome:
        fail(outcome)


def show(gates: Iterable[Gate], notes: Iterable[str]) -> None:
    """Print a line for each gate, those that were missed first."""
    console = Console(soft_wrap=True)
    for note in notes:
        console.print(Text(note, style="yellow"))
    for gate in sorted(gates, key=lambda gate: gate.passed):
        word = ("holds ", "green") if gate.passed else ("MISSED", "bold red")
        console.print(Text.assemble(word, f" {gate.required}: {gate.said}"))


def fail(outcome: Outcome) -> None:
    """Raise a GateError where a gate was missed."""
    if outcome.missed:
        raise GateError(outcome.sentence)
