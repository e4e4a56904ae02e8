"""Pieces of work in threads of this process."""

from __future__ import annotations

import contextlib
import heapq
import itertools
import queue
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import torch

from robustkit.base.progress import Reporter
from robustkit.evaluation.executors import Done, Piece, Recipe, executor
from robustkit.evaluation.executors._worker import Once, Worker


@executor("local", title="Threads of this process")
class Local:
    """Threads of this process, each with its share of torch's intra-operation threads (:mod:`robustkit.base.parallel`).

    Where there are fewer pieces than ``workers``, the batches of a piece run side by side.
    """

    remote = False

    def __init__(self, device: torch.device, workers: int = 1) -> None:
        self.device, self.workers, self.threads = device, workers, torch.get_num_threads()
        self._shared: dict[str, object] = {}
        self._recipes: dict[str, Recipe] = {}
        self._once = Once()

    def open(self) -> None:
        """Nothing is there to open."""

    def share(self, name: str, value: object, recipe: Recipe | None = None) -> None:
        """Keep a thing by its name; nothing is copied."""
        if value is None and recipe is not None:
            self._recipes.setdefault(name, recipe)
        else:
            self._shared.setdefault(name, value)

    def drop(self, name: str) -> None:
        """Forget a shared thing."""
        self._shared.pop(name, None)
        self._recipes.pop(name, None)
        self._once.forget(name)

    @contextlib.contextmanager
    def session(self, width: int, reporter: Reporter) -> Iterator[_Threads]:
        """Open a session: ``width`` pieces or fewer get the threads that there are."""
        session = _Threads(self, width, reporter)
        wait = True
        try:
            yield session
        except KeyboardInterrupt:  # a person does not wait for work that will be done again
            wait = False
            raise
        finally:
            session.end(wait)

    def summary(self) -> list[str]:
        """Return nothing: there is no other machine."""
        return []

    def close(self) -> None:
        """Nothing is left to close."""

    def run(self, piece: Piece, workers: int, reporter: Reporter) -> Done:
        """Run one piece here and now."""
        started = time.perf_counter()
        with reporter.task(piece.label, max(1, piece.steps)) as advance:
            worker = Worker(self.device, workers, lambda name: self._get(name, worker), self._once, advance)
            value = piece.function(worker, **piece.arguments)
        return Done(piece, value, seconds=time.perf_counter() - started)

    def _get(self, name: str, worker: Worker) -> object:
        if name in self._shared:
            return self._shared[name]
        recipe = self._recipes[name]
        return self._once(name, lambda: recipe.function(worker, **recipe.arguments))


class _Threads:
    """A session: a pool whose threads take the costliest piece that waits; of one thread, the caller's own."""

    def __init__(self, local: Local, width: int, reporter: Reporter) -> None:
        self._local, self._reporter = local, reporter
        self._inner = max(1, local.workers // max(1, width))
        self._waiting: list[tuple[float, int, Piece]] = []
        self._order, self._lock, self._open = itertools.count(), threading.Lock(), 0
        self._done: queue.SimpleQueue[Done | BaseException] = queue.SimpleQueue()
        threads = min(local.workers, width)
        self._before = torch.get_num_threads()
        share = max(1, self._before // max(1, threads))
        self._pool = (
            ThreadPoolExecutor(threads, initializer=torch.set_num_threads, initargs=(share,)) if threads > 1 else None
        )

    def submit(self, piece: Piece) -> None:
        """Take a piece on."""
        with self._lock:
            heapq.heappush(self._waiting, (-piece.cost, next(self._order), piece))
        self._open += 1
        if self._pool:
            self._pool.submit(self._next)

    def finished(self) -> Iterator[Done]:
        """Yield each piece once it is done, until none is left."""
        while self._open:
            if not self._pool:
                self._next()
            done = self._done.get()
            self._open -= 1
            if isinstance(done, BaseException):
                raise done
            yield done

    def end(self, wait: bool) -> None:
        """Drop what has not begun, and wait for what has."""
        if self._pool:
            self._pool.shutdown(wait=wait, cancel_futures=True)
            torch.set_num_threads(self._before)

    def _next(self) -> None:
        with self._lock:
            _, _, piece = heapq.heappop(self._waiting)
        try:
            done: Done | BaseException = self._local.run(piece, self._inner, self._reporter)
        except BaseException as error:  # noqa: BLE001 - raised where the pieces are waited for, else nobody hears of it
            done = error
        self._done.put(done)
