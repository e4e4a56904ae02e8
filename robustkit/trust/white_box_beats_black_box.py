"""Who sees the model does better than who does not."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from robustkit.attacks import spec
from robustkit.trust import Evidence, Finding, check, probe
from robustkit.trust._evidence import Bools
from robustkit.trust._stronger import long_pgd, stronger

if TYPE_CHECKING:
    from robustkit.trust._job import Job


@probe("gradient-free", per="budget", quick={"queries": 100}, full={"queries": 1000})
def gradient_free(job: Job) -> dict[str, Bools]:
    """Square Attack on what still stands."""
    return {"broken": job.broken_by(spec("square", queries=job.params["queries"]))}


@probe("from-others", per="budget", others=True, quick={"steps": 10}, full={"steps": 40})
def from_others(job: Job) -> dict[str, Bools]:
    """PGD on each of the other ensembles of the evaluation, on what still stands."""
    attack = long_pgd(job.params["steps"], job.eps)
    made = [job.broken_by(attack, source=source) for source in job.others]
    return {"broken": np.any(made, axis=0)}


@check("white-box-beats-black-box", source="Athalye et al. 2018, arXiv:1802.00420, section 3.1")
def white_box_beats_black_box(evidence: Evidence) -> Finding | None:
    """Neither Square Attack nor transfer from other ensembles breaks more than a point of what was left standing."""
    found = [outcome for name in ("gradient-free", "from-others") if (outcome := evidence.broken_by(name))]
    if not found or not evidence.gradient:
        return None
    remedy = (stronger(), spec("square"))
    advice = f"an attack that sees no gradient breaks more: gradients are masked; run {evidence.advised(*remedy)}"
    return Finding(*max(found), advice, remedy)
