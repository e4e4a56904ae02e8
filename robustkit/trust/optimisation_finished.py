"""The attack's loss had settled when its steps ran out."""

from __future__ import annotations

import numpy as np

from robustkit.trust import Evidence, Finding, check
from robustkit.trust._evidence import settles
from robustkit.trust._stronger import stronger

UNFINISHED = 0.05  # share of its whole range by which the loss may still move over the last iterations
LAST = 10  # iterations that count as the last ones
LONGER = 4  # times the steps that are advised


@check("optimisation-finished", source="Pintor et al. 2022, arXiv:2106.09947, indicator I4")
def optimisation_finished(evidence: Evidence) -> Finding | None:
    """The running best loss of the samples that still stand no longer moves over the last ten iterations.

    Needs more than ten steps. The loss is scaled to [0, 1] for each sample by its range over the run. A worst case is
    asked for the longest of its runs. Not asked where steps fall to nothing by a schedule, which ends wherever it is.
    """
    if any(settles(s.name) for s in evidence.counted):
        return None
    budgeted = [s for s in evidence.counted if s.bounded]
    run = max(budgeted, key=lambda s: s.steps, default=None)
    if run is None or run.steps <= LAST:
        return None
    history = run.run.samples.history[:, : run.steps + 1]
    if history.shape[1] <= LAST:
        return None
    rows = evidence.standing[: len(history)] & np.isfinite(history).all(1)
    if not rows.any():
        return None
    best = np.maximum.accumulate(history[rows], axis=1)
    span = best[:, -1] - best[:, 0]
    moved = (best[:, -1] - best[:, -1 - LAST]) / np.where(span > 0, span, 1.0)
    longer = stronger()
    way = f"it longer, --set {run.name}.steps={LONGER * run.steps}" if evidence.run else evidence.advised(longer)
    advice = f"the loss still rises: run {way}"
    return Finding(float(moved.mean()), UNFINISHED, advice, (longer,))
