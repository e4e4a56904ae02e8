"""Progress for a person who watches: rich bars on a terminal, nothing elsewhere. Never imports torch."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Protocol

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
    """

    def __init__(self, console: Console | None = None) -> None:
        self.console = console
        self._progress: Progress | None = None

    @contextmanager
    def task(self, description: str, total: int) -> Iterator[Advance]:
        """Show a bar of ``total`` steps while the block runs; tasks may be nested."""
        if self.console is None or not self.console.is_terminal:
            yield lambda steps=1, note="": None
            return
        outermost = self._progress is None
        progress = self._progress or self._open()
        task = progress.add_task(description, total=total, note="")
        try:
            yield lambda steps=1, note="": progress.update(task, advance=steps, **({"note": note} if note else {}))
        finally:
            progress.remove_task(task)
            if outermost:
                progress.stop()
                self._progress = None

    def say(self, message: str) -> None:
        """Print one line, above the bars if there are any."""
        if self.console is not None:
            self.console.print(message, highlight=False, soft_wrap=True)

    def _open(self) -> Progress:
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
        return self._progress
