"""Progress for a person who watches: rich bars on a terminal, nothing elsewhere. Never imports torch."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, NoReturn, Protocol

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn


class Advance(Protocol):
    """Move a bar on by ``steps`` and show ``note`` beside it."""

    def __call__(self, steps: int = 1, note: str = "") -> None: ...  # noqa: D102


class Reporter:
    """Where long work says how far it is, and what a person should know meanwhile.

    Parameters
    ----------
    console : rich.console.Console or None
        None says nothing at all, for use from Python.
    planned : callable or None
        Takes the plan of a run that is not to be run; it has to raise, and nothing is written before it does.
    """

    def __init__(self, console: Console | None = None, planned: Callable[[Any], NoReturn] | None = None) -> None:
        self.console, self.planned = console, planned
        self._progress: Progress | None = None
        self._open_tasks = 0
        self._lock = threading.Lock()

    @contextmanager
    def task(self, description: str, total: int) -> Iterator[Advance]:
        """Show a bar of ``total`` steps while the block runs; tasks may be nested, or run in several threads."""
        if self.console is None or not self.console.is_terminal:
            yield lambda steps=1, note="": None
            return
        progress = self._enter()
        task = progress.add_task(description, total=total, note="")
        try:
            yield lambda steps=1, note="": progress.update(task, advance=steps, **({"note": note} if note else {}))
        finally:
            progress.remove_task(task)
            self._leave()

    def say(self, message: str) -> None:
        """Print one line, above the bars if there are any."""
        if self.console is not None:
            self.console.print(message, highlight=False, soft_wrap=True)

    def _enter(self) -> Progress:
        """Return the live display, opened by the first task of all."""
        with self._lock:
            if self._progress is None:
                self._progress = Progress(
                    TextColumn("{task.description}"),
                    BarColumn(bar_width=30),
                    MofNCompleteColumn(),
                    TimeElapsedColumn(),
                    TimeRemainingColumn(),
                    TextColumn("[dim]{task.fields[note]}"),
                    console=self.console,
                    transient=True,
                )
                self._progress.start()
            self._open_tasks += 1
            return self._progress

    def _leave(self) -> None:
        """Close the display with the last task."""
        with self._lock:
            self._open_tasks -= 1
            if self._open_tasks == 0 and self._progress is not None:
                self._progress.stop()
                self._progress = None
