"""What the commands that end with a report print: progress, the answer, gates, where the report is. No torch here."""

from __future__ import annotations

import contextlib
import io
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TextIO

from rich.console import Console

from robustkit.base import options
from robustkit.base.progress import Reporter
from robustkit.base.types import Names
from robustkit.commands import _recall
from robustkit.commands.check import settle
from robustkit.commands.studies import CHECKS
from robustkit.gates import running
from robustkit.study.options_run import Gates

# By format; of all others: tables.
WRITTEN = {
    "html": "report.html",
    "figures": "figures",
    "json": "results.json",
    "robustbench": "robustbench",
    "card": "cards",
}


def evaluated(name: str, kind: type[Any], config: Any) -> None:
    """Do what ``evaluate`` and ``audit`` are asked for, once all that can be checked without torch is.

    Parameters
    ----------
    kind : type
        The configuration of the function of that name.
    config : kind with Printed
        What the command takes.
    """
    CHECKS[name](config)
    running.prepare(config)
    folder, asked = Path(config.out), _recall.question(name, config)
    if (results := _recall.recall(asked, folder)) is None:
        answer(
            config, folder, lambda api, reporter: api.ungated(kind(**config.keywords(), reporter=reporter)),
            done=lambda results: _recall.remember(asked, folder, _text_again(config, folder, results)),
        )  # fmt: skip
    elif (text := _text_again(config, folder, results)) is None:
        again(config, folder, results)
    else:
        _recall.keep(folder, text)
        sys.stdout.write(text)


def again(config: Any, folder: Path, results: Any) -> None:
    """Print an answer that was there already."""
    console = Console()
    if not config.quiet:
        console.print("[dim]All cells were in the store already, and so was their report.[/dim]")
    shown(config, folder, results, console)


def _text_again(config: Any, folder: Path, results: Any) -> str | None:
    """Return what :func:`again` prints on the screen that there is; None where numbers are held: it might fail."""
    if running.asked(config) or not sys.stdout:
        return None
    with contextlib.redirect_stdout(_Copy(sys.stdout)) as copy:
        again(config, folder, results)
    return copy.getvalue()


class _Copy(io.StringIO):
    """What would be printed: a text that is written as the stream is that it stands for."""

    def __init__(self, of: TextIO) -> None:
        super().__init__()
        self._of = of

    @property
    def encoding(self) -> str:  # type: ignore[override]
        return self._of.encoding

    def isatty(self) -> bool:
        return self._of.isatty()


def answer(
    config: Any, folder: str | Path, work: Callable[[Any, Reporter], Any], console: Console | None = None,
    done: Callable[[Any], None] | None = None,
) -> None:  # fmt: skip
    """Do the work of a command, print the answer, then every table if the user wants them, and the path at the end.

    Parameters
    ----------
    config : Printed with Formats
        What the command takes.
    folder : path
        Where the report is written.
    work : callable
        Of ``robustkit.api`` and whom to report to, to the results.
    done : callable or None
        Called with the results when the work is done, before they are held against what is required of them.
    """
    console = console or Console()
    reporter = Reporter(None if config.quiet else console)
    with loading(console, reporter):
        from robustkit import api
    with reporter.alive("working"):
        results = work(api, reporter)
    if done is not None:
        done(results)
    shown(config, folder, results, console)


def shown(config: Any, folder: str | Path, results: Any, console: Console) -> None:
    """Print the answer and what else is wanted of results, where the report is, and hold the numbers."""
    from robustkit.reports import _answer

    path = Path(folder) / written(config.formats)
    quiet: bool = config.quiet
    last = str(path) if quiet else f"report: {path}"
    if not quiet:
        _answer.show_answer(results, console)
    if config.verbose:
        from robustkit.reports import terminal  # whose tables are made with SciPy

        terminal.show(results, console)
    if isinstance(config, Gates):
        settle(config, folder, last, quiet=quiet)
    else:
        print(last)


@contextmanager
def loading(console: Console, reporter: Reporter) -> Iterator[None]:
    """Say that torch is being imported, which takes seconds, unless nobody is told anything."""
    with contextlib.ExitStack() as stack:
        if reporter.console is not None:
            stack.enter_context(console.status("loading torch ..."))
        stack.enter_context(reporter.alive("loading torch"))
        yield


def written(formats: Names) -> str:
    """Return the file to look at first: the page, or what was made instead of one."""
    chosen = options.names(formats) if formats else ("json",)
    first = "html" if "html" in chosen else chosen[0]
    return WRITTEN.get(first, "tables")
