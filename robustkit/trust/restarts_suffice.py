"""Runs from other starts do not break more of a vote."""

from __future__ import annotations

from typing import TYPE_CHECKING

from robustkit.trust import Evidence, Finding, check, probe
from robustkit.trust._evidence import Bools
from robustkit.trust._stronger import stronger

if TYPE_CHECKING:
    from robustkit.trust._job import Job


# A single member moves a mean, and one run goes far; of a vote each start breaks other samples.
@probe(
    "other-starts", per="budget", members=2, votes=True, beside=("members",), samples=236, every_budget=True,
    quick={"restarts": 8}, full={"restarts": 12},
)  # fmt: skip
def other_starts(job: Job) -> dict[str, Bools]:
    """Quorum, which looks at the members, from other random starts on what still stands."""
    return {"broken": job.broken_by(stronger(job.params["restarts"]))}


@check("restarts-suffice", source="robustkit; Mosbach et al. 2018, arXiv:1810.12042")
def restarts_suffice(evidence: Evidence) -> Finding | None:
    """Of an ensemble that votes, further runs from other starts break at most a point more of what stands."""
    outcome = evidence.broken_by("other-starts")
    if outcome is None:
        return None
    remedy = (stronger(),)
    advice = f"runs from other starts break more of this vote: run {evidence.advised(*remedy)}"
    return Finding(*outcome, advice, remedy)
