"""Pieces of an evaluation: what is shared under which name, and the functions that workers run.

A function here gets a :class:`~robustkit.evaluation.executors._worker.Worker` and small arguments; what is large it
gets by its name. Whoever submits a piece shares what it needs first, by the functions below.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import replace

import torch

from robustkit.base.errors import RunError
from robustkit.base.lines import spoken
from robustkit.data import Split
from robustkit.ensembles.ensemble import Ensemble
from robustkit.ensembles.fastpath import Crafting, prepare
from robustkit.evaluation.cell import RunOptions, run_cell
from robustkit.evaluation.executors import Done, Executor, Session
from robustkit.evaluation.executors._worker import Worker
from robustkit.evaluation.executors.local import Local
from robustkit.records.cells import Cell, Run
from robustkit.records.samples import ERROR, Samples

TRIED = 64  # images that faster copies are proven on


def executor_of(run_options: RunOptions) -> Executor:
    """Return who runs the pieces: the executor of the options, else threads of this process."""
    return run_options.executor or Local(run_options.device, run_options.workers, run_options.devices)


def travelling(run_options: RunOptions) -> RunOptions:
    """Return the options as a piece takes them along."""
    return replace(run_options, device=torch.device("cpu"), workers=1, executor=None, devices=())


def at(worker: Worker, run_options: RunOptions, shape: tuple[int, ...]) -> RunOptions:
    """Return the options as they are where a piece runs, on images of a shape (C, H, W)."""
    here = replace(run_options, device=worker.device, workers=worker.workers)
    if worker.halvings:
        here = replace(here, batch_size=max(1, here.batch(shape) >> worker.halvings))
    return here


def share_ensembles(executor: Executor, ensembles: Mapping[str, Ensemble], keys: Iterable[str]) -> None:
    """Share ensembles by the keys of their records."""
    for key in keys:
        executor.share(ensemble_name(key), ensembles[key])


def ensemble_name(key: str) -> str:
    """Return under which name an ensemble is shared."""
    return f"ensemble {key}"


def share_split(executor: Executor, split: Split) -> str:
    """Share a split; return its name, which its images, labels and ids decide."""
    ids = hashlib.sha256(split.ids.numpy().tobytes()).hexdigest()
    name = f"split {split.sha256()} {ids}"
    executor.share(name, split)
    return name


def make_crafting(worker: Worker, ensemble: str, images: str, speed: str, chosen: str) -> Crafting:
    """Make what attacks are shown, as it was chosen elsewhere; ``ensemble`` and ``images`` are shared."""
    split: Split = worker.get(images)
    x = split.batch(range(min(len(split), TRIED)))[1].to(worker.device)
    return prepare(worker.get(ensemble), x, speed, chosen)


def attack(
    worker: Worker, cell: Cell, split: str, run_options: RunOptions, clean: str = "", crafting: str = "",
    lower: str = "",
) -> Run:  # fmt: skip
    """Run one cell (:func:`robustkit.evaluation.cell.run_cell`); the names are of shared things, empty: none."""
    images: Split = worker.get(split)
    return run_cell(
        cell, worker.get(ensemble_name(cell.ensemble)), images, worker.get(clean) if clean else None,
        at(worker, run_options, images.shape), worker.advance, worker.get(crafting) if crafting else None,
        worker.get(lower) if lower else None,
    )  # fmt: skip


def lost_cell(cell: Cell, clean: Samples, cause: str, where: Mapping[str, object]) -> Run:
    """Return the record of an attack that no worker could finish: every sample failed, none of them is robust."""
    status = clean.status.copy()
    status[:] = ERROR
    samples = replace(clean, status=status, examples=clean.examples[:0], history=clean.history[:0])
    return Run(cell, samples, 0.0, (f"{cell.name} failed: {cause}",), {**where, "failed": cause})


class LostError(RunError):
    """Pieces whose workers died in every try; everything else of the stage is done and stored."""


def given(session: Session) -> Iterator[Done]:
    """Yield each piece of a session that gave a value; once all are over, a :class:`LostError` names the others."""
    lost = []
    for done in session.finished():
        if done.lost:
            lost.append(f"{done.piece.label}: {done.lost}")
        else:
            yield done
    if lost:
        raise LostError(f"{len(lost)} pieces of work failed, the same command tries them again: {'; '.join(lost)}")


def placed(run: Run, done: Done) -> Run:
    """Return a run with a note of where its piece ran."""
    return replace(run, environment={**run.environment, **done.where}) if done.where else run


def told(done: Done, seconds: float, label: str = "") -> str:
    """Return a line for the person who watches: what is done, how long it took, and on which node, if on another."""
    return ", ".join([label or done.piece.label, spoken(seconds), *([str(done.where["node"])] if done.where else [])])
