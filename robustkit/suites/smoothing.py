"""Randomised smoothing: in which l2 ball the smoothed ensemble's answer is certain, for any network."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from robustkit.records.cells import EnsembleRecord
from robustkit.records.schema_proofs import SmoothingResult
from robustkit.records.store import Store
from robustkit.study.plan import Study
from robustkit.suites import Job, SuiteRequest, suite
from robustkit.suites._certified_cells import cells_of, facts_of

RADII = (0.0, 0.5, 1.0, 1.5, 2.0)  # times sigma: budgets of the table, beside those of a study in l2
FAILURE = 0.001  # that a radius may be wrong


@suite("smoothing", title="Randomised smoothing")
class Smoothing:
    """Certified l2 accuracy of the smoothed ensemble, which is another classifier than the ensemble."""

    @staticmethod
    def ask(request: SuiteRequest) -> Mapping[str, Any]:
        """Return the noise, the draws and the samples."""
        from robustkit.certify.smoothing import check_sigma

        named = request.options
        check_sigma(named["sigma"])
        n = min(named["certify_n"], len(request.data.split))
        own = list(named["eps"]) if named["norm"] == "l2" else []
        return {"n": n, "eps": own, "sigma": named["sigma"], "draws": named["smoothing_draws"], "failure": FAILURE}

    @staticmethod
    def run(job: Job) -> list[str]:
        """Smooth what the store lacks."""
        from robustkit.suites._certifying import run_all, smoothed

        every = [
            cell for record in job.study.ensembles for cell in cells_of(job.study, record, "smoothing", None, "l2")
        ]
        run_all(job, "smoothing", every, smoothed)
        return []

    @staticmethod
    def results(study: Study, store: Store) -> list[SmoothingResult]:
        """Return one record for each ensemble."""
        return [_result(study, store, record) for record in study.ensembles]


def _result(study: Study, store: Store, record: EnsembleRecord) -> SmoothingResult:
    asked = study.suite_requests["smoothing"]
    facts = facts_of(study, store, cells_of(study, record, "smoothing", None, "l2"))
    answer, radius, y = (np.concatenate([one.arrays[name] for one in facts]) for name in ("answer", "radius", "y"))
    eps = sorted({*(asked["sigma"] * factor for factor in RADII), *asked["eps"]})
    clean = store.get(study.clean(record)).samples.correctness[: len(y)]
    certain = np.where(answer == y, radius, -1.0)
    return SmoothingResult(
        ensemble=record.id, sigma=asked["sigma"], draws=asked["draws"], failure=asked["failure"], n=len(y),
        clean_accuracy=float(clean.mean()), abstained=int((answer < 0).sum()), eps=eps,
        accuracy=[float((certain >= value).mean()) for value in eps],
        median_radius=float(np.median(np.maximum(certain, 0))), seconds=sum(one.seconds for one in facts),
    )  # fmt: skip
