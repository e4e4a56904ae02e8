"""Independent pieces of work side by side on a CPU, in threads of this process.

Small convolutions gain nothing from two cores each, while two of them side by side gain almost all of it; and threads
that wait for each other inside one operation stall when the machine is busy. So each worker gets its share of torch's
intra-operation threads. No attack's number depends on how many workers there are; a training
sums its gradients in another order with another number of threads, as it does on another machine.
"""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

import torch

T = TypeVar("T")
R = TypeVar("R")
GLOBAL_RNG = threading.Lock()  # held by whoever borrows torch's global generator
MOST = 8  # beyond this, Python's own lock costs more than a further worker gives


@contextlib.contextmanager
def seeded(seed: int) -> Iterator[None]:
    """Let what draws on the CPU from torch's global generator, as initialisers do, draw a stream of its own.

    The caller's stream stays as it was, and so do those of GPUs, which ``torch.manual_seed`` would seed as well.
    """
    with GLOBAL_RNG, torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(seed)
        yield


def default_workers(*devices: torch.device) -> int:
    """Return how many workers suit some devices: one for each GPU, one for each core of a CPU, at most eight."""
    return min(MOST, torch.get_num_threads()) if devices[0].type == "cpu" else len(devices)


@contextlib.contextmanager
def sharing(workers: int) -> Iterator[None]:
    """Compute with the share of torch's threads that each of so many workers has."""
    before = torch.get_num_threads()
    torch.set_num_threads(max(1, before // max(1, workers)))
    try:
        yield
    finally:
        torch.set_num_threads(before)


def run_all(function: Callable[[T], R], items: Sequence[T], workers: int) -> list[R]:
    """Return ``[function(item) for item in items]``, computed by that many workers.

    The first exception is raised once the work in flight has ended; what has not begun by then is dropped.
    """
    workers = min(workers, len(items))
    if workers <= 1:
        return [function(item) for item in items]
    before = torch.get_num_threads()
    share = max(1, before // workers)
    pool = ThreadPoolExecutor(workers, initializer=torch.set_num_threads, initargs=(share,))
    wait = True
    try:
        return list(pool.map(function, items))
    except KeyboardInterrupt:  # a person does not wait for work that will be done again
        wait = False
        raise
    finally:
        pool.shutdown(wait=wait, cancel_futures=True)
        torch.set_num_threads(before)
