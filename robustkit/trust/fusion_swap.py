"""The fusion rule does not hide the members from the attack."""

from __future__ import annotations

from typing import TYPE_CHECKING

from robustkit.attacks import spec
from robustkit.trust import Evidence, Finding, check, probe
from robustkit.trust._evidence import Bools
from robustkit.trust._stronger import stride, stronger

if TYPE_CHECKING:
    from robustkit.trust._job import Job


@probe("swap", per="budget", members=2, unless="members", quick={"steps": 10}, full={"steps": 40})
def swap(job: Job) -> dict[str, Bools]:
    """PGD on other fusions of the members, and on each of them alone, scored on the real fusion."""
    steps = job.params["steps"]
    return {"broken": job.broken_by(spec("fusion-swap", steps=steps, step_size=stride(steps, job.eps)))}


@check("fusion-swap", source="robustkit; Tramer et al. 2020, arXiv:2002.08347")
def fusion_swap(evidence: Evidence) -> Finding | None:
    """No other fusion of the members, attacked instead of the real one, breaks more than a point more."""
    outcome = evidence.broken_by("swap")
    if outcome is None:
        return None
    remedy = (stronger(),)
    advice = f"attacking the members around their fusion rule breaks more: run {evidence.advised(*remedy)}"
    return Finding(*outcome, advice, remedy)
