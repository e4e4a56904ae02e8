"""What a stored evaluation says of each sample, whichever version wrote it. Never imports torch."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator

from robustkit.base.errors import UserError
from robustkit.pipeline.outcomes import samples_of
from robustkit.records.cells import Cell, EnsembleRecord
from robustkit.records.outcomes import SampleOutcomes
from robustkit.records.store import STUDY, Store
from robustkit.study.plan import Study
from robustkit.trust import Scored
from robustkit.trust._plan import clean_of


def read_study(store: Store) -> Study:
    """Return the study of a store; a :class:`UserError` if it cannot be read."""
    try:
        return Study.from_json(json.loads((store.folder / STUDY).read_text("utf-8")))
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise UserError(f"'{store.folder / STUDY}' cannot be read ({error}); run `robustkit evaluate` again.") from None


def outcomes_of(study: Study, store: Store) -> dict[str, SampleOutcomes]:
    """Return what each ensemble got right on each sample, by id; a RunError if its clean samples are not there."""
    return {record.id: _of(study, store, record) for record in study.ensembles}


def _of(study: Study, store: Store, record: EnsembleRecord) -> SampleOutcomes:
    clean, most = store.get(study.clean(record)), clean_of(study, store, record)
    elements = math.prod(study.dataset.shape)
    runs = [(cell, run) for cell in _white_box(study, store, record) if (run := store.load(cell)) is not None]
    return samples_of(
        record, clean, [Scored(run, eps, most, elements) for cell, run in runs for eps in study.budgets(cell)]
    )


def _white_box(study: Study, store: Store, record: EnsembleRecord) -> Iterator[Cell]:
    """Yield the white-box cells of an ensemble: those of its plan, or, of a plan that another version made, all."""
    if "attacks" not in study.suites:
        return
    planned = [*study.white_box(record), *(cell for _, cell in study.escalated(record))]
    if all(map(store.has_file, planned)):
        yield from planned
        return
    seeds = (study.seed, study.seed + 1)  # of what was asked for, of what followed
    for cell in store.cells():
        about = (cell.kind, cell.ensemble, cell.data, cell.source, cell.version)
        asked = ("attack", record.key, study.dataset.sha256, "ensemble", study.version)
        if about == asked and cell.seed in seeds:
            yield cell
