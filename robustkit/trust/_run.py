"""Runs the probes that the store has no facts of yet."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np
import numpy.typing as npt

from robustkit.base.progress import Reporter
from robustkit.data import Split
from robustkit.ensembles.ensemble import Ensemble
from robustkit.evaluation import pieces
from robustkit.evaluation.cell import RunOptions
from robustkit.evaluation.execute import Craftings, describe
from robustkit.evaluation.executors import Piece
from robustkit.evaluation.executors._worker import Worker
from robustkit.records.cells import EnsembleRecord, Facts
from robustkit.records.store import Store
from robustkit.study.plan import Study
from robustkit.trust import probe
from robustkit.trust._job import Job
from robustkit.trust._plan import Item, cost_of, plan, requested_runs


def probe_all(
    study: Study, ensembles: Mapping[str, Ensemble], split: Split, store: Store, run_options: RunOptions,
    reporter: Reporter, craftings: Craftings,
) -> None:  # fmt: skip
    """Run the probes of every ensemble of a study whose attacks are in the store, several side by side."""
    executor = pieces.executor_of(run_options)
    images = pieces.share_split(executor, split)
    work: list[Piece] = []
    total = 0
    for record in study.ensembles:
        clean = store.get(study.clean(record))
        items = plan(study, record, clean, runs := requested_runs(study, store, record))
        total += len(items)
        for item in items:
            if store.load_facts(item.cell) is None:
                # A probe may attack other ensembles too, to see whether their images break this one.
                keys = [record.key, *(item.cell.params.get("others") or ())]
                pieces.share_ensembles(executor, ensembles, keys)
                names = {key: craftings.share(executor, key) for key in keys}
                executor.share(known := f"samples {clean.cell.key}", clean.samples)
                work.append(replace(_piece(item, record, images, known, names, run_options), cost=cost_of(item, runs)))
    with (
        reporter.pieces("checking the numbers", total) as done,
        executor.session(len(work), reporter) as session,
    ):
        for _ in range(total - len(work)):
            done()
        for piece in work:
            session.submit(piece)
        for one in pieces.given(session):
            store.save_facts(one.value)
            done(f"check of {pieces.told(one, one.seconds)}")


def _piece(
    item: Item, record: EnsembleRecord, split: str, clean: str, craftings: Mapping[str, str], run_options: RunOptions
) -> Piece:
    """Return the piece of one probe; ``split``, ``clean`` and ``craftings`` are names of what is shared."""
    arguments = {
        "item": item, "split": split, "clean": clean, "craftings": craftings,
        "run_options": pieces.travelling(run_options),
    }  # fmt: skip
    needs = (pieces.ensemble_name(record.key), split, clean, *craftings.values())
    return Piece(probed, arguments, needs, label=f"{record.id}: {describe(item.cell)}", steps=1)


def probed(
    worker: Worker, item: Item, split: str, clean: str, craftings: Mapping[str, str], run_options: RunOptions
) -> Facts:
    """Run one probe on the samples that it may look at, the rows of the others are zero; a piece of work."""
    started = time.perf_counter()
    rows = np.flatnonzero(item.rows)
    arrays: dict[str, npt.NDArray[Any]] = {"rows": item.rows}
    if len(rows) == 0:  # nothing stands any more
        return Facts(item.cell, arrays, 0.0)
    images, ensemble = worker.get(split), worker.get(pieces.ensemble_name(item.cell.ensemble))
    here = pieces.at(worker, run_options, images.shape)
    job = Job(item.cell, ensemble, lambda key: worker.get(craftings[key]), images, worker.get(clean), here).select(rows)
    for name, values in probe.get(item.name)(job).items():
        arrays[name] = np.zeros(len(item.rows), values.dtype)
        arrays[name][rows] = values
    return Facts(item.cell, arrays, time.perf_counter() - started)
