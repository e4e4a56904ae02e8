"""Gates from start to end: read, judge, write what a pipeline reads, and fail."""

from __future__ import annotations

import importlib
from collections.abc import Sequence
from pathlib import Path

from robustkit.base.configuration import takes
from robustkit.base.errors import GateError, UserError
from robustkit.base.files import writable
from robustkit.base.options import some_of
from robustkit.gates.judging import Gate, Outcome, thresholds
from robustkit.reports._files import write_text
from robustkit.reports.json_file import load_numbers
from robustkit.study.config import CheckConfig
from robustkit.study.options_run import Gates

FORMATS = {"junit": "check.xml", "sarif": "check.sarif", "md": "check.md"}
RESULTS = "results.json"


def asked(config: Gates) -> bool:
    """Tell whether anything is required."""
    return bool(config.minimum or config.require or config.against_baseline)


def prepare(config: Gates) -> None:
    """Read the baseline before any work is done; a :class:`UserError` says what is wrong with it."""
    if config.against_baseline is not None:
        from robustkit.gates import baseline

        baseline.read(config.against_baseline)


def judged(config: Gates, path: Path | str) -> Outcome:
    """Hold what is required against a stored evaluation, given its folder or its ``results.json``.

    Raises
    ------
    UserError
        If it cannot be read, or something is required of a number that is not there.
    """
    path = Path(path)
    file = path / RESULTS if path.is_dir() else path
    results = load_numbers(file)
    gates = thresholds(results, config.minimum, config.require)
    notes: tuple[str, ...] = ()
    if config.against_baseline is not None:
        from robustkit.comparison.reading import StoredEvaluation
        from robustkit.gates import baseline

        since, notes = baseline.gates(baseline.read(config.against_baseline), StoredEvaluation.read(file.parent))
        gates += since
    return Outcome(file, results, gates, notes)


def enforce(config: Gates, path: Path | str) -> list[Gate]:
    """Return the gates of a stored evaluation where they hold, none where nothing is required; else a GateError."""
    if not asked(config):
        return []
    outcome = judged(config, path)
    if outcome.missed:
        raise GateError(outcome.sentence)
    return outcome.gates


def write(outcome: Outcome, formats: Sequence[str], out: Path | str | None) -> list[Path]:
    """Write the named formats beside ``results.json`` or below ``out``; return the files."""
    if not formats:
        return []
    folder = writable(Path(out) if out else outcome.path.parent, "--out")
    made = {name: importlib.import_module(f"robustkit.gates.{name}").text(outcome) for name in formats}
    return [write_text(folder / FORMATS[name], text) for name, text in made.items()]


def write_baseline(path: Path | str, evaluation: Path | str) -> Path:
    """Write the outcomes of a stored evaluation on each sample, for a later ``--against-baseline``."""
    from robustkit.comparison.reading import StoredEvaluation
    from robustkit.gates import baseline

    writable(Path(path).parent, "--write-baseline")
    return baseline.write(Path(path), StoredEvaluation.read(evaluation))


def run(config: CheckConfig) -> tuple[Outcome, list[Path]]:
    """Do what ``robustkit check`` is asked for; return the gates and the files that were written.

    Raises
    ------
    UserError
        If nothing is required, results cannot be read, or something is required of a number that is not there.
    """
    formats = some_of(config.formats or (), "format", FORMATS)
    if not asked(config) and config.write_baseline is None:  # a check that cannot fail is none
        raise UserError("check has nothing to hold; give --min, --require, --against-baseline or --write-baseline.")
    outcome = judged(config, config.path)
    written = write(outcome, formats, config.out)
    if config.write_baseline is not None:
        written.append(write_baseline(config.write_baseline, config.path))
    return outcome, written


@takes(CheckConfig)
def check(config: CheckConfig) -> list[Gate]:
    """Hold stored numbers against what is required of them, and say of each requirement whether it holds.

    Returns
    -------
    list of Gate
        One for each requirement of each number, with ``passed`` and a sentence that says what was found.

    Raises
    ------
    UserError
        If the results cannot be read, or something is required of a number that is not there.
    """
    return run(config)[0].gates
