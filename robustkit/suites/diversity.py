"""How much the members of an ensemble differ: answers, errors, probabilities, attributions, features."""

from __future__ import annotations

import math
import time
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from robustkit.base.parallel import run_all
from robustkit.base.progress import Advance, unseen
from robustkit.data import Split
from robustkit.ensembles.ensemble import Ensemble
from robustkit.evaluation.cell import RunOptions
from robustkit.records.cells import Cell, EnsembleRecord, Facts
from robustkit.records.schema_members import DiversityResult
from robustkit.records.store import Store
from robustkit.study.plan import Study
from robustkit.suites import Job, SuiteRequest, suite
from robustkit.suites._attributions import attributions
from robustkit.suites._diversity_results import PARTS, cells_of, result
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
        lacking = [
            e for e in job.study.ensembles if any(job.store.load_facts(c) is None for c in cells_of(job.study, e))
        ]
        # One ensemble is one piece of work: hooks on a member would hear another thread's passes.
        inner = replace(job.run_options, workers=1)
        with job.reporter.task(
            "diversity", sum(job.request[part]["samples"] for part in PARTS) * len(lacking)
        ) as advance:

            def work(record: EnsembleRecord) -> None:
                for cell in cells_of(job.study, record):
                    if job.store.load_facts(cell) is not None:
                        advance(job.request[cell.name]["samples"])
                        continue
                    facts = measured(
                        cell, job.ensembles[record.key], job.data.split, job.request[cell.name], inner,
                        lambda n=1, note="": advance(n, record.id),
                    )  # fmt: skip
                    job.store.save_facts(facts)
                    job.reporter.finished(f"diversity, {record.id}: {cell.name}", facts.seconds)

            run_all(work, lacking, job.run_options.workers)
        return []

    @staticmethod
    def results(study: Study, store: Store) -> list[DiversityResult]:
        """Return one record for each ensemble."""
        return [result(study, record, store) for record in study.ensembles]


def measured(
    cell: Cell, ensemble: Ensemble, split: Split, asked: Mapping[str, Any], run_options: RunOptions,
    advance: Advance = unseen,
) -> Facts:  # fmt: skip
    """Return what the cell of one part, ``attributions`` or ``layers``, notes of an ensemble."""
    started = time.perf_counter()
    if cell.name == "attributions":
        arrays = attributions(ensemble, split, asked, run_options, advance)
    else:
        arrays = similarities(ensemble, split, asked, run_options.device, advance)
    return Facts(cell, arrays, time.perf_counter() - started)
