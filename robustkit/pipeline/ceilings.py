"""What is proven beside what was broken, on the same samples. Never imports torch."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from robustkit.records.outcomes import SampleOutcomes
from robustkit.records.schema_proofs import CertifiedResult
from robustkit.records.store import Store
from robustkit.study.plan import Study
from robustkit.suites._certified_cells import floors

POINT = 0.01  # between floor and ceiling: so near the number is proven
ROUNDING = 1e-6  # of expected answers


def with_ceilings(
    study: Study, store: Store, found: Sequence[CertifiedResult], outcomes: Mapping[str, SampleOutcomes]
) -> list[CertifiedResult]:
    """Return the records of the suite ``certified`` with the worst case of the attacks on the same samples."""
    records = {record.id: record for record in study.ensembles}
    return [
        _beside(row, floors(study, store, records[row["ensemble"]], row["eps"]), outcomes[row["ensemble"]])
        for row in found
    ]


def _beside(row: CertifiedResult, floor: np.ndarray, outcomes: SampleOutcomes) -> CertifiedResult:
    left = outcomes.worst.get((row["norm"], row["eps"]))
    if left is None:
        return row
    left = left[: len(floor)]
    contradicted = int((floor > left + ROUNDING).sum())
    ceiling = float(left.mean())
    gap = ceiling - row["floor"]
    notes = list(row["notes"])
    if contradicted:
        notes.append(
            f"{contradicted} samples are certified and were broken: floor or attack is wrong there, and neither is to "
            "be quoted"
        )
    return {
        **row, "ceiling": ceiling, "unsettled": gap, "contradicted": contradicted,
        "proven": gap <= POINT + 1e-9 and not contradicted, "notes": notes,
    }  # fmt: skip
