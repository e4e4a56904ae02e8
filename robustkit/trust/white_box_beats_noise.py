"""An attack does better than chance."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from robustkit.attacks import spec
from robustkit.trust import Evidence, Finding, check, probe
from robustkit.trust._evidence import Bools
from robustkit.trust._stronger import stronger

if TYPE_CHECKING:
    from robustkit.trust._job import Job

SHARE = 0.005


@probe("corners", per="budget", quick={"draws": 100}, full={"draws": 1000})
def corners(job: Job) -> dict[str, Bools]:
    """Whether one of many random points at the edge of the ball is misclassified."""
    found = [(job.margins(part) > 0).any(0).numpy() for part in job.edge(job.params["draws"])]
    return {"broken": np.any(found, axis=0)}


@check("white-box-beats-noise", source="Athalye et al. 2018, arXiv:1802.00420, section 3.1")
def white_box_beats_noise(evidence: Evidence) -> Finding | None:
    """Random points at the edge of the ball break at most one in 200 of the samples that were left standing."""
    outcome = evidence.broken_by("corners")
    if outcome is None:
        return None
    remedy = (stronger(), spec("square"))
    advice = f"blind noise breaks more: the attack is broken; run {evidence.advised(*remedy)}"
    return Finding(outcome[0], SHARE, advice, remedy)
