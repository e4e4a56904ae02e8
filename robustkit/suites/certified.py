"""Certified floors: on how many samples no image within the budget changes the answer, proven by linear bounds."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from robustkit.base.errors import UserError
from robustkit.records.cells import EnsembleRecord
from robustkit.records.schema_proofs import CertifiedResult
from robustkit.records.store import Store
from robustkit.study.plan import Study
from robustkit.suites import Job, SuiteRequest, suite
from robustkit.suites._certified_cells import cells_of, facts_of

EFFORT = {"steps": 20, "cases": 200, "case_steps": 8}  # robustkit.certify.fusing.Effort, whose defaults they are
ALL_MEMBERS = "all members have to be certified, which the median needs not"
INTERVALS = "a layer is too large for linear bounds, and has interval bounds: the floor may be far below the truth"


@suite("certified", title="Certified floors")
class Certified:
    """Floors under the worst case, at every budget of the study, of the first samples."""

    @staticmethod
    def ask(request: SuiteRequest) -> Mapping[str, Any]:
        """Return how many samples are certified at which budgets, and with which effort."""
        from robustkit.certify.fusing import check_rule
        from robustkit.certify.region import check_norm

        named = request.options
        check_norm(named["norm"])
        for id, fusion in named["fusions"].items():
            try:
                check_rule(fusion, 2)
            except UserError as error:
                raise UserError(f"'{id}': {error} Leave the suite certified out, or name another --fusion.") from None
        n = min(named["certify_n"], len(request.data.split))
        return {"n": n, "eps": list(named["eps"]), "norm": named["norm"], **EFFORT}

    @staticmethod
    def run(job: Job) -> list[str]:
        """Certify what the store lacks."""
        from robustkit.suites._certifying import certified, run_all

        asked, study = job.request, job.study
        cells = [
            cell
            for record in study.ensembles
            for eps in asked["eps"]
            for cell in cells_of(study, record, "certified", eps, asked["norm"])
        ]
        run_all(job, "certified", cells, certified)
        found = Certified.results(study, job.store)
        return list(dict.fromkeys(f"{r['ensemble']}: {note}" for r in found for note in r["notes"]))

    @staticmethod
    def results(study: Study, store: Store) -> list[CertifiedResult]:
        """Return one record for each ensemble and budget, without what the attacks left."""
        asked = study.suite_requests["certified"]
        return [_result(study, store, record, eps, asked["norm"]) for record in study.ensembles for eps in asked["eps"]]


def _result(study: Study, store: Store, record: EnsembleRecord, eps: float, norm: str) -> CertifiedResult:
    facts = facts_of(study, store, cells_of(study, record, "certified", eps, norm))
    floor = np.concatenate([one.arrays["floor"] for one in facts])
    alone = np.concatenate([one.arrays["alone"] for one in facts], axis=1)
    clean = store.get(study.clean(record)).samples.correctness[: len(floor)]
    notes = [INTERVALS] if any(bool(one.arrays["by_interval"]) for one in facts) else []
    if record.fusion == "median" and record.members > 1:
        notes.append(ALL_MEMBERS)
    return CertifiedResult(
        ensemble=record.id, eps=eps, norm=norm, n=len(floor), fusion=record.fusion, clean_accuracy=float(clean.mean()),
        floor=float(floor.mean()), ceiling=None, unsettled=None, contradicted=0, proven=False,
        alone=[float(own.mean()) for own in alone], all_alone=float(alone.all(0).mean()),
        slack=max(float(one.arrays["slack"]) for one in facts), seconds=sum(one.seconds for one in facts), notes=notes,
    )  # fmt: skip
