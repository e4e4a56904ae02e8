"""How much the members of an ensemble differ: answers, errors, probabilities, attributions, features."""

from __future__ import annotations

import math
import time
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from robustkit.evaluation import pieces
from robustkit.evaluation.cell import RunOptions
from robustkit.evaluation.executors import Piece
from robustkit.evaluation.executors._worker import Worker
from robustkit.records.cells import Cell, Facts
from robustkit.records.schema_members import DiversityResult
from robustkit.records.store import Store
from robustkit.study.plan import Study
from robustkit.suites import Job, SuiteRequest, suite
from robustkit.suites._attributions import attributions
from robustkit.suites._diversity_results import cells_of, result
from robustkit.suites._layers import similarities

# Of images of up to 3x32x32 pixels; fewer of larger ones, so that the work stays about the same.
IMAGES, FEWEST_IMAGES = 200, 20  # whose attributions are computed
FEATURES, FEWEST_FEATURES = 500, 100  # whose features are compared
PIXELS = 3 * 32 * 32
STEPS = 20  # of integrated gradients
SHOWN = 6  # images in the gallery
BATCH = 128  # of minibatch CKA, fixed: its value depends on it a little
MOST = 20  # layers of a member


@suite("diversity", title="Diversity")
class Diversity:
    """All measures of the diversity of members, from clean logits and a few extra passes over a subset."""

    @staticmethod
    def ask(request: SuiteRequest) -> Mapping[str, Any]:
        """Return how many images are looked at, and how closely."""
        n, elements = len(request.data.split), math.prod(request.data.split.shape)
        share = min(1.0, PIXELS / elements)
        return {
            "attributions": {
                "samples": min(n, max(FEWEST_IMAGES, int(IMAGES * share))), "steps": STEPS, "shown": SHOWN,
            },
            "layers": {
                "samples": min(n, max(FEWEST_FEATURES, int(FEATURES * share))), "batch": BATCH, "most": MOST,
            },
        }  # fmt: skip

    @staticmethod
    def run(job: Job) -> list[str]:
        """Compute attributions and compare layers of every ensemble, as far as the store lacks them."""
        executor = pieces.executor_of(job.run_options)
        ids = {record.key: record.id for record in job.study.ensembles}
        every = [cells_of(job.study, record) for record in job.study.ensembles]
        lacking = [[cell for cell in cells if job.store.load_facts(cell) is None] for cells in every]
        todo = [cells for cells in lacking if cells]
        split = pieces.share_split(executor, job.data.split)
        with (
            job.reporter.pieces("diversity", sum(map(len, todo))) as advance,
            executor.session(len(todo), job.reporter) as session,
        ):

            def submit(cells: Sequence[Cell]) -> None:
                # One after the other: hooks on a member would hear another thread's passes.
                pieces.share_ensembles(executor, job.ensembles, [cells[0].ensemble])
                session.submit(_piece(job, cells, split, ids[cells[0].ensemble]))

            for cells in todo:
                submit(cells)
            for done in pieces.given(session):
                job.store.save_facts(done.value)
                advance(pieces.told(done, done.value.seconds))
                if rest := done.piece.tag[1:]:
                    submit(rest)
        return []

    @staticmethod
    def results(study: Study, store: Store) -> list[DiversityResult]:
        """Return one record for each ensemble."""
        return [result(study, record, store) for record in study.ensembles]


def _piece(job: Job, cells: Sequence[Cell], split: str, id: str) -> Piece:
    """Return the piece that computes the first of some cells of an ensemble."""
    cell, asked = cells[0], job.request[cells[0].name]
    arguments = {"cell": cell, "split": split, "asked": asked, "run_options": pieces.travelling(job.run_options)}
    return Piece(
        measured, arguments, (pieces.ensemble_name(cell.ensemble), split), len(cells),
        f"diversity, {id}: {cell.name}", asked["samples"], cells,
    )  # fmt: skip


def measured(worker: Worker, cell: Cell, split: str, asked: Mapping[str, Any], run_options: RunOptions) -> Facts:
    """Return what the cell of one part, ``attributions`` or ``layers``, notes of an ensemble; a piece of work."""
    started = time.perf_counter()
    images, ensemble = worker.get(split), worker.get(pieces.ensemble_name(cell.ensemble))
    here = replace(pieces.at(worker, run_options, images.shape), workers=1)
    if cell.name == "attributions":
        arrays = attributions(ensemble, images, asked, here, worker.advance)
    else:
        arrays = similarities(ensemble, images, asked, here.device, worker.advance)
    return Facts(cell, arrays, time.perf_counter() - started)
