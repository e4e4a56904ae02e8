"""Runs the probes that the store has no facts of yet."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

import numpy as np
import numpy.typing as npt

from robustkit.base.lines import spoken
from robustkit.base.parallel import run_all
from robustkit.base.progress import Reporter
from robustkit.data import Split
from robustkit.ensembles.ensemble import Ensemble
from robustkit.ensembles.fastpath import Crafting
from robustkit.evaluation.cell import RunOptions
from robustkit.evaluation.execute import Craftings, describe
from robustkit.records.cells import EnsembleRecord, Facts, Run
from robustkit.records.store import Store
from robustkit.study.plan import Study
from robustkit.trust import probe
from robustkit.trust._job import Job
from robustkit.trust._plan import Item, plan, requested_runs


def probe_all(
    study: Study, ensembles: Mapping[str, Ensemble], split: Split, store: Store, run_options: RunOptions,
    reporter: Reporter, craftings: Craftings,
) -> None:  # fmt: skip
    """Run the probes of every ensemble of a study whose attacks are in the store, several side by side."""
    work: list[tuple[EnsembleRecord, Run, Item]] = []
    for record in study.ensembles:
        clean = store.get(study.clean(record))
        work += [(record, clean, item) for item in plan(study, record, clean, requested_runs(study, store, record))]
    inner = replace(run_options, workers=max(1, run_options.workers // max(1, len(work))))

    def run(one: tuple[EnsembleRecord, Run, Item]) -> None:
        record, clean, item = one
        if store.load_facts(item.cell) is None:
            began = time.perf_counter()
            with reporter.task(name := f"{record.id}: {describe(item.cell)}", 1):
                store.save_facts(probed(item, clean, ensembles[record.key], split, inner, craftings.of))
            done(f"check of {name}, {spoken(time.perf_counter() - began)}")
        else:
            done()

    with reporter.pieces("checking the numbers", len(work)) as done:
        run_all(run, work, run_options.workers)


def probed(
    item: Item, clean: Run, ensemble: Ensemble, split: Split, run_options: RunOptions,
    craftings: Callable[[str], Crafting],
) -> Facts:  # fmt: skip
    """Run one probe on the samples that it may look at; the rows of the others are zero.

    ``craftings`` is as in :class:`robustkit.trust._job.Job`: what attacks are shown of an ensemble, by its key.
    """
    started = time.perf_counter()
    rows = np.flatnonzero(item.rows)
    arrays: dict[str, npt.NDArray[Any]] = {"rows": item.rows}
    if len(rows) == 0:  # nothing stands any more
        return Facts(item.cell, arrays, 0.0)
    job = Job(item.cell, ensemble, craftings, split, clean.samples, run_options).select(rows)
    for name, values in probe.get(item.name)(job).items():
        arrays[name] = np.zeros(len(item.rows), values.dtype)
        arrays[name][rows] = values
    return Facts(item.cell, arrays, time.perf_counter() - started)
