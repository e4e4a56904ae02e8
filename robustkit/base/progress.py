"""Progress: rich bars for a person who watches a terminal, plain lines elsewhere. Never imports torch."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, NoReturn, Protocol

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

from robustkit.base.lines import BEAT, Lines, Task, spoken


class Advance(Protocol):
    """Move a bar on by ``steps`` and show ``note`` beside it."""

    def __call__(self, steps: int = 1, note: str = "") -> None: ...  # noqa: D102


def unseen(steps: int = 1, note: str = "") -> None:
    """Show no bar: an :class:`Advance` for work that nobody watches."""


class Finish(Protocol):
    """Say that a piece is finished: its name, empty where nobody need know, and what it cost."""

    def __call__(self, piece: str = "", work: float = 0.0) -> None: ...  # noqa: D102


class Reporter:
    """Where long work says how far it is, and what a person should know meanwhile.

    Parameters
    ----------
    console : rich.console.Console or None
        None says nothing at all, for use from Python.
    every : float
        Where no terminal shows bars: seconds of silence after which a line says what is going on.
    planned : callable or None
        Takes the plan of a run that is not to be run; it has to raise, and nothing is written before it does.
    """

    def __init__(
        self, console: Console | None = None, every: float = BEAT, planned: Callable[[Any], NoReturn] | None = None
    ) -> None:
        self.console, self.planned = console, planned
        self._lines = Lines(self._print, every)
        self._progress: Progress | None = None
        self._open_tasks = 0
        self._lock = threading.Lock()

    @contextmanager
    def task(self, description: str, total: int) -> Iterator[Advance]:
        """Show a bar of ``total`` steps while the block runs; tasks may be nested, or run in several threads."""
        if self.console is None:
            yield unseen
        elif self.console.is_terminal:
            yield from self._bar(description, total)
        else:
            with self._opened(description, total) as task:
                yield lambda steps=1, note="": self._lines.advance(task, steps, note)

    @contextmanager
    def pieces(self, description: str, total: int, work: float = 0.0) -> Iterator[Finish]:
        """Show a bar of ``total`` pieces while the block runs, or a line for each where there is no terminal.

        ``work`` is what all pieces cost, in any unit, where that is known; the time left is told by it.
        """
        if self.console is not None and not self.console.is_terminal:
            with self._opened(description, total, True, work) as task:
                yield lambda piece="", work=0.0: self._lines.advance(task, 1, piece, work)
        else:
            with self.task(description, total) as advance:
                yield lambda piece="", work=0.0: advance(1, piece)

    @contextmanager
    def alive(self, description: str) -> Iterator[None]:
        """Say now and then that the block is still running, where no terminal shows it and no task in it does."""
        if self.console is None or self.console.is_terminal:
            yield
        else:
            with self._opened(description, 1):
                yield

    def say(self, message: str) -> None:
        """Print one line, above the bars if there are any."""
        if self.console is not None:
            self._lines.print(message)

    def finished(self, piece: str, seconds: float) -> None:
        """Say that a piece of work is done and how long it took, where no bar has shown it."""
        if self.console is not None and not self.console.is_terminal:
            self._lines.print(f"{piece}, {spoken(seconds)}")

    def _print(self, message: str) -> None:
        if self.console is not None:
            self.console.print(message, highlight=False, soft_wrap=True)

    @contextmanager
    def _opened(self, description: str, total: int, listed: bool = False, work: float = 0.0) -> Iterator[Task]:
        task = self._lines.open(description, total, listed, work)
        try:
            yield task
        finally:
            self._lines.close(task)

    def _bar(self, description: str, total: int) -> Iterator[Advance]:
        progress = self._enter()
        task = progress.add_task(description, total=total, note="")
        try:
            yield lambda steps=1, note="": progress.update(task, advance=steps, **({"note": note} if note else {}))
        finally:
            progress.remove_task(task)
            self._leave()

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
