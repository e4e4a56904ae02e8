"""A study of thousands of cells on workers that only a clock of their own stands for: the scheduling itself, measured.

Everything that a driver does is done: the real plan of a study of made-up ensembles goes through
:func:`robustkit.evaluation.execute.execute`, which releases chains, notes progress and writes a record for each cell,
and through the queue that the executor ``ray`` has. Only who works is simulated: a piece ends when the clock says so.
"""

from __future__ import annotations

import contextlib
import heapq
import io
import math
import os
import statistics
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, cast

import numpy as np
import torch
from _memory import memory
from rich.console import Console

from robustkit.attacks import spec
from robustkit.base.progress import Reporter
from robustkit.data import Split
from robustkit.evaluation.cell import RunOptions
from robustkit.evaluation.execute import Craftings, execute
from robustkit.evaluation.executors import Done, Piece, Recipe
from robustkit.evaluation.executors._queue import Lost, Queue, Ticket, finished
from robustkit.pipeline.attack_costs import EARLY, standing
from robustkit.records.cells import Cell, DatasetRecord, EnsembleRecord, Run
from robustkit.records.samples import HERE, OK, Samples
from robustkit.records.store import Store
from robustkit.study.plan import Study, steps_of

MEMBERS, CLASSES, SAMPLES = 3, 10, 16
EPS = tuple(i / 255 for i in (1, 2, 3, 4, 6, 8, 12, 16))
ATTACKS: tuple[tuple[str, dict[str, Any]], ...] = (
    ("fgsm", {}), ("bim", {"steps": 10}), ("mim", {"steps": 20}), ("pgd", {"steps": 40}),
    ("pgd", {"steps": 200, "restarts": 5}), ("apgd-dlr", {"steps": 100}), ("square", {"queries": 2000}),
)  # fmt: skip
PASS = 0.05  # seconds of a step on 1,000 images of a small network on one CPU
OVERHEAD = 0.05  # seconds of a piece beside its work
VARIES = 0.3  # by which factor (log-normal) a length differs from what is known before


def plan(cells: int, seed: int = 0) -> Study:
    """Return a study over seeds of about so many cells: 7 attacks at 8 budgets, the reference, transfer both ways."""
    data = DatasetRecord("digits", "test", SAMPLES, tuple(map(str, range(CLASSES))), "0" * 64, (1, 8, 8))
    attacks = tuple(spec(name, **params) for name, params in ATTACKS)
    each = len([*Study((_record(0),), data, attacks, EPS, "linf", EPS[-1], seed=seed).cells()])
    ensembles = tuple(_record(at) for at in range(max(1, math.ceil(cells / each))))
    return Study(ensembles, data, attacks, EPS, "linf", EPS[-1], seed=seed)


def _record(at: int) -> EnsembleRecord:
    name, key = f"defense{at // 10}-seed{at % 10}", f"{at:064x}"
    return EnsembleRecord(name, key, f"defense{at // 10}", {}, ("lenet",) * MEMBERS, MEMBERS, "mean-prob", key)


def lengths(study: Study, seed: int = 0) -> dict[str, float]:
    """Return the seconds of each cell by key.

    An attack costs its steps on the images that still stand at its budget, as the forecast of a run guesses it
    (:mod:`robustkit.pipeline.attack_costs`), a transfer row all of them; a factor that nobody knows before comes to it.
    """
    rng, found = np.random.default_rng(seed), {}
    for cell in study.cells():
        work = 1.0
        if cell.attack is not None:
            alive = standing(cell.eps or 0.0, EPS[-1])
            share = 1.0 if cell.kind == "transfer" else alive + EARLY * (1 - alive)
            work = share * steps_of(cell)
        found[cell.key] = OVERHEAD + PASS * work * math.exp(rng.normal(0, VARIES))
    return found


@dataclass
class Simulated:
    """An executor whose workers are a clock: who has it, has the length of each piece by the key of its cell."""

    count: int
    seconds: dict[str, float]
    now: float = 0.0
    pieces: int = 0
    busy: float = 0.0
    remote = True
    _ends: list[tuple[float, int, Ticket]] = field(default_factory=list)

    def share(self, name: str, value: Any, recipe: Recipe | None = None) -> None:
        """Send nothing."""

    def drop(self, name: str) -> None:
        """Have nothing to forget."""

    def close(self) -> None:
        """Have nothing to close."""

    @contextlib.contextmanager
    def session(self, width: int, reporter: Reporter) -> Iterator[_Session]:
        """Open a session on all workers."""
        yield _Session(self)

    def room(self) -> bool:
        """Return whether a worker is free."""
        return len(self._ends) < self.count

    def start(self, ticket: Ticket) -> None:
        """Begin a piece."""
        seconds = self.seconds[ticket.piece.arguments["cell"].key]
        self.pieces, self.busy = self.pieces + 1, self.busy + seconds
        heapq.heappush(self._ends, (self.now + seconds, self.pieces, ticket))

    def ended(self) -> Sequence[tuple[Ticket, Done | Lost]]:
        """Put the clock on to the next end."""
        self.now, _, ticket = heapq.heappop(self._ends)
        return [(ticket, Done(ticket.piece, stub(ticket.piece.arguments["cell"])))]


class _Session:
    """What ``ray`` has too: a queue, and the loop that gives it to whoever is free."""

    def __init__(self, workers: Simulated) -> None:
        self._workers, self._queue = workers, Queue()

    def submit(self, piece: Piece) -> None:
        """Take a piece on."""
        self._queue.put(piece)

    def finished(self) -> Iterator[Done]:
        """Yield each piece once it is over."""
        return finished(self._queue, self._workers)


def stub(cell: Cell) -> Run:
    """Return a record of a cell that nobody has run."""
    zeros, counts = np.zeros(SAMPLES, np.float32), np.zeros(SAMPLES, np.int64)
    samples = Samples(
        ids=np.arange(SAMPLES), y=counts, target=counts - 1,
        member_logits=np.zeros((MEMBERS, SAMPLES, CLASSES), np.float32), fused=np.zeros((SAMPLES, CLASSES), np.float32),
        l0=zeros, l1=zeros, l2=zeros, linf=zeros, forwards=counts, backwards=counts, seconds=zeros, status=counts + OK,
        carried=counts + HERE, history=np.zeros((0, 0), np.float32), examples=np.zeros((0, 1, 8, 8), np.float32),
    )  # fmt: skip
    return Run(cell, samples, 0.0, (), {"node": "simulated"})


class _NoCraftings:
    """Nothing is attacked, so that nothing has to be made ready for it."""

    def of(self, key: str) -> None:
        """Prepare nothing."""

    def share(self, *_: Any) -> str:
        """Return no name."""
        return ""


def simulate(cells: int, workers: int, folder: Path, seed: int = 0) -> dict[str, Any]:
    """Run the plan on so many simulated workers with its store in a folder; return what it took, and what it had to.

    Returns
    -------
    dict
        ``makespan`` and ``ideal`` in simulated seconds (the ideal is the larger of all work shared evenly and of the
        longest chain with the clean cell before it), ``driver_seconds``, CPU seconds and cells a second of this
        process, its memory (:func:`_memory.memory`), and by how much its own grew.
    """
    study = plan(cells, seed)
    seconds = lengths(study, seed)
    chains = [sum(seconds[cell.key] for cell in chain) for chain in study.chains()]
    clean = {record.key: seconds[study.clean(record).key] for record in study.ensembles}
    longest = max(
        clean[chain[0].ensemble] + length for chain, length in zip(study.chains(), chains, strict=True)
    )  # fmt: skip
    ideal = max(sum(seconds.values()) / workers, longest)
    simulated = Simulated(workers, seconds)
    split = Split(torch.zeros(SAMPLES, 1, 8, 8), torch.zeros(SAMPLES, dtype=torch.int64))
    ensembles = cast(Any, {record.key: None for record in study.ensembles})
    quiet = Reporter(Console(file=io.StringIO(), width=200))
    options = RunOptions(torch.device("cpu"), workers=workers, executor=simulated)
    before = memory()
    started, cpu = time.perf_counter(), time.process_time()
    execute(study, ensembles, split, Store(folder), options, quiet, cast(Craftings, _NoCraftings()))
    took, cpu = time.perf_counter() - started, time.process_time() - cpu
    return {
        "cells": len(seconds), "chains": len(chains), "workers": workers,
        "median_cell": statistics.median(seconds.values()), "longest_cell": max(seconds.values()),
        "makespan": simulated.now, "ideal": ideal, "over_ideal": simulated.now / ideal - 1,
        "busy": simulated.busy / max(simulated.now, 1e-9) / workers, "driver_seconds": took, "driver_cpu_seconds": cpu,
        "per_second": len(seconds) / took, "memory": memory(), "grown": memory()["uss"] - before["uss"],
        "load": os.getloadavg()[0],
    }  # fmt: skip
