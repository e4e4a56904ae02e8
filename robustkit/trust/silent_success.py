"""The best iterate counts, not the last."""

from __future__ import annotations

import numpy as np

from robustkit.trust import Evidence, Finding, check

LOWER = 0.05  # of its range, by which the loss must have fallen since its best


@check("silent-success", source="Pintor et al. 2022, arXiv:2106.09947, indicator I3")
def silent_success(evidence: Evidence) -> Finding | None:
    """How many samples ended below their best loss; never fails, because the best iterate is the one returned."""
    run = evidence.run
    if run is None or not run.bounded or run.steps < 2:
        return None
    history = run.run.samples.history[:, : run.steps + 1]
    if history.shape[1] < 2:
        return None
    rows = np.isfinite(history).all(1)
    if not rows.any():
        return None
    kept = history[rows]
    fallen = (kept.max(1) - kept[:, -1]) > LOWER * (kept.max(1) - kept.min(1))
    return Finding(float(fallen.mean()), 1.0, "")
