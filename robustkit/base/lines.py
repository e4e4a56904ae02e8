"""Progress where nobody can watch a bar: plain lines, and a sign of life between them. Never imports torch."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass

BEAT = 6.0  # seconds of silence after which something is said: no log is to be without a line for ten
TELLING = 0.02  # share of the cost that has to be done before its pace says how long the rest will take
AT_ONCE = 0.02  # seconds: steps that are done sooner were done before, and say nothing of the pace


@dataclass
class Task:
    """Work in progress: ``done`` of ``total`` steps, ``worked`` of ``work`` units of cost where costs are known.

    ``listed``: it is made of pieces that are named one by one as they are finished. ``ahead`` are steps that an earlier
    run had done.
    """

    description: str
    total: int
    listed: bool
    work: float
    began: float
    done: int = 0
    worked: float = 0.0
    ahead: int = 0
    note: str = ""


class Lines:
    """Says a line for each finished piece, and one after each silence; safe to use from several threads.

    Parameters
    ----------
    say : callable
        What prints a line.
    every : float
        Seconds of silence after which the oldest unfinished piece is said to be going on.
    """

    def __init__(self, say: Callable[[str], None], every: float = BEAT) -> None:
        self._say, self._every = say, every
        self._tasks: list[Task] = []
        self._lock = threading.RLock()
        self._last = time.monotonic()
        self._wake = threading.Event()
        self._beating: threading.Thread | None = None

    def open(self, description: str, total: int, listed: bool = False, work: float = 0.0) -> Task:
        """Begin a task; until the last one is closed, no silence is longer than ``every``."""
        task = Task(description, total, listed, work, time.monotonic())
        with self._lock:
            if not self._tasks:  # of a pause before it no more counts than leaves it a moment to say something itself
                self._last = max(self._last, time.monotonic() - 0.8 * self._every)
            self._tasks.append(task)
            if self._beating is None:
                self._wake.clear()
                self._beating = threading.Thread(target=self._beat, daemon=True)
                self._beating.start()
        return task

    def advance(self, task: Task, steps: int = 1, note: str = "", work: float = 0.0) -> None:
        """Move a task on; of a listed one ``note`` names the piece that is finished, and a line says so."""
        with self._lock:
            if not task.listed and time.monotonic() - task.began < AT_ONCE:
                task.ahead += steps
            task.done += steps
            task.worked += work
            task.note = note or task.note
            if task.listed and note:
                self.print(f"[{task.done}/{task.total}] {note}{_left(task)}")

    def close(self, task: Task) -> None:
        """End a task."""
        with self._lock:
            self._tasks.remove(task)
            if not self._tasks:
                self._beating = None
                self._wake.set()

    def print(self, line: str) -> None:
        """Print a line, and take note that it is no longer silent."""
        with self._lock:
            self._last = time.monotonic()
            self._say(line)

    def _beat(self) -> None:
        own = threading.current_thread()
        while True:
            with self._lock:
                if self._beating is not own:
                    return
                quiet = time.monotonic() - self._last
                if quiet >= self._every:
                    self.print(self._going_on())
                    quiet = 0.0
            self._wake.wait(max(0.01, self._every - quiet))

    def _going_on(self) -> str:
        """Return how far the oldest unfinished piece is, and how many others are under way."""
        pieces = [task for task in self._tasks if not task.listed and task.total > 1]
        if not pieces:
            task = self._tasks[-1]
            far = f" {task.done} of {task.total}{_left(task)}" if task.listed else ""
            return f"  {task.description} ...{far} ({spoken(time.monotonic() - task.began)})"
        task = pieces[0]
        note = f": {task.note}" if task.note else ""
        more = f"; {len(pieces) - 1} more beside it" if len(pieces) > 1 else ""
        return f"  {task.description}{note}; {100 * task.done // max(1, task.total)} %{_left(task)}{more}"


def _left(task: Task) -> str:
    """Return the time left of a task at its pace so far, by cost where that is known, else by steps."""
    done, total = (task.worked, task.work) if task.work else (task.done - task.ahead, task.total - task.ahead)
    if not 0 < done < total or (task.work and done < TELLING * total):
        return ""
    return f", {spoken((time.monotonic() - task.began) * (total - done) / done)} left"


def spoken(seconds: float) -> str:
    """Return a duration as people say it: ``8 s``, ``3 min``, ``2 h 5 min``."""
    if seconds < 99.5:
        return f"{seconds:.0f} s"
    minutes = round(seconds / 60)
    if minutes < 100:
        return f"{minutes} min"
    return f"{minutes // 60} h {minutes % 60} min" if minutes % 60 else f"{minutes // 60} h"
