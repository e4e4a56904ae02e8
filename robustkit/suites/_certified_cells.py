"""The cells of the suite ``certified``: so many samples of one ensemble at one budget. Never imports torch."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from robustkit.base.errors import RunError
from robustkit.records.cells import Cell, EnsembleRecord, Facts, Spec
from robustkit.records.store import Store
from robustkit.study.plan import Study

TOGETHER = 20  # samples of a cell: what a kill loses at most


def cells_of(study: Study, record: EnsembleRecord, suite: str, eps: float | None, norm: str) -> list[Cell]:
    """Return the cells of one ensemble at a budget; of smoothing there is none."""
    asked = study.suite_requests[suite]
    how = {key: asked[key] for key in asked if key not in ("n", "eps", "norm")}
    return [
        Cell(
            kind="probe",
            ensemble=record.key,
            data=study.dataset.sha256,
            norm=norm,
            eps=eps,
            version=study.version,
            attack=Spec(suite, suite, {**how, "first": at, "count": min(TOGETHER, asked["n"] - at)}),
            seed=study.seed,
        )  # fmt: skip
        for at in range(0, asked["n"], TOGETHER)
    ]


def facts_of(study: Study, store: Store, cells: list[Cell]) -> list[Facts]:
    """Return the facts of cells; a :class:`RunError` if the store lacks one."""
    found = [store.load_facts(cell) for cell in cells]
    known = [facts for facts in found if facts is not None]
    if len(known) < len(found):
        raise RunError("the store lacks what was certified; run the same `robustkit evaluate` again.")
    return known


def floors(study: Study, store: Store, record: EnsembleRecord, eps: float) -> npt.NDArray[Any]:
    """Return how likely each sample is proven right at a budget, (n,)."""
    norm = study.suite_requests["certified"]["norm"]
    facts = facts_of(study, store, cells_of(study, record, "certified", eps, norm))
    return np.concatenate([one.arrays["floor"] for one in facts])
