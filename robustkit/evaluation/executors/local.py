"""Pieces of work in threads of this process."""

from __future__ import annotations

import contextlib
import copy
import heapq
import itertools
import queue
import threading
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor

import torch
from torch import nn

from robustkit.base.progress import Reporter
from robustkit.evaluation.executors import Done, Piece, Recipe, executor
from robustkit.evaluation.executors._worker import Once, Worker
from robustkit.functional.sending import moved


@executor("local", title="Threads of this process")
class Local:
    """Threads of this process, each with its share of torch's intra-operation threads (:mod:`robustkit.base.parallel`).

    Where there are fewer pieces than ``workers``, the batches of a piece run side by side.

    Parameters
    ----------
    devices : sequence of torch.device
        Several GPUs, of which ``device`` is the first: each thread computes on one of them, with copies of its own of
        what is shared. Empty: all compute on ``device``.
    """

    remote = False

    def __init__(self, device: torch.device, workers: int = 1, devices: Sequence[torch.device] = ()) -> None:
        self.device, self.workers, self.threads = device, workers, torch.get_num_threads()
        self.devices = tuple(devices) or (device,)
        self._shared: dict[str, object] = {}
        self._recipes: dict[str, Recipe] = {}
        self._copies: dict[tuple[torch.device, str], nn.Module] = {}
        self._once = {one: Once() for one in self.devices}

    def open(self) -> None:
        """Nothing is there to open."""

    def share(self, name: str, value: object, recipe: Recipe | None = None) -> None:
        """Keep a thing by its name; nothing is copied but the models, to further GPUs.

        That is done now, while no piece runs the model: a copy must not hold what a piece has hooked to it.
        """
        if recipe is not None:
            self._recipes.setdefault(name, recipe)
        if value is None and recipe is not None or name in self._shared:
            return
        self._shared[name] = value
        if isinstance(value, nn.Module):
            for device in self.devices[1:]:
                self._copies[device, name] = moved(copy.deepcopy(value), device)

    def drop(self, name: str) -> None:
        """Forget a shared thing."""
        self._shared.pop(name, None)
        self._recipes.pop(name, None)
        for device in self.devices:
            self._copies.pop((device, name), None)
            self._once[device].forget(name)

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

    def run(self, piece: Piece, workers: int, reporter: Reporter, device: torch.device | None = None) -> Done:
        """Run one piece here and now, on the first of the devices unless another one is named."""
        started, device = time.perf_counter(), device or self.device
        current = torch.cuda.device(device) if device.type == "cuda" else contextlib.nullcontext()
        with reporter.task(piece.label, max(1, piece.steps)) as advance, current:
            worker = Worker(device, workers, lambda name: self._get(name, worker), self._once[device], advance)
            value = piece.function(worker, **piece.arguments)
        return Done(piece, value, seconds=time.perf_counter() - started)

    def _get(self, name: str, worker: Worker) -> object:
        if (worker.device, name) in self._copies:
            return self._copies[worker.device, name]
        # What was made here of a model is on the first device: another one makes its own of its copy.
        if name in self._shared and (worker.device == self.device or name not in self._recipes):
            return self._shared[name]
        recipe = self._recipes[name]
        return self._once[worker.device](name, lambda: recipe.function(worker, **recipe.arguments))


class _Threads:
    """A session: a pool whose threads take the costliest piece that waits; of one thread, the caller's own."""

    def __init__(self, local: Local, width: int, reporter: Reporter) -> None:
        self._local, self._reporter = local, reporter
        self._inner = max(1, local.workers // max(len(local.devices), width))  # batches of a piece share its GPU
        self._devices, self._own = itertools.cycle(local.devices), threading.local()
        self._waiting: list[tuple[float, int, Piece]] = []
        self._order, self._lock, self._open = itertools.count(), threading.Lock(), 0
        self._done: queue.SimpleQueue[Done | BaseException] = queue.SimpleQueue()
        threads = min(local.workers, width)
        self._before = torch.get_num_threads()
        share = max(1, self._before // max(1, threads))
        self._pool = ThreadPoolExecutor(threads, initializer=self._begin, initargs=(share,)) if threads > 1 else None

    def _begin(self, share: int) -> None:
        """Give a thread of the pool its share of torch's threads, and its GPU."""
        torch.set_num_threads(share)
        with self._lock:
            self._own.device = next(self._devices)

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
            done: Done | BaseException = self._local.run(
                piece, self._inner, self._reporter, getattr(self._own, "device", None)
            )
        except BaseException as error:  # noqa: BLE001 - raised where the pieces are waited for, else nobody hears of it
            done = error
        self._done.put(done)
