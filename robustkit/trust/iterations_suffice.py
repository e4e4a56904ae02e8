"""Twice the steps do not break more."""

from __future__ import annotations

from typing import TYPE_CHECKING

from robustkit.trust import Evidence, Finding, check, probe
from robustkit.trust._evidence import POINT, Bools
from robustkit.trust._stronger import long_pgd, stronger

if TYPE_CHECKING:
    from robustkit.trust._job import Job


@probe("longer", per="budget", unless="members", quick={"times": 2, "restarts": 1}, full={"times": 2, "restarts": 3})
def longer(job: Job) -> dict[str, Bools]:
    """PGD with twice the steps of the longest run, from other random starts, on what still stands."""
    attack = long_pgd(job.params["steps"], job.eps, restarts=job.params["restarts"])
    return {"broken": job.broken_by(attack)}


@check("iterations-suffice", source="Carlini et al. 2019, arXiv:1902.06705, section 5.3")
def iterations_suffice(evidence: Evidence) -> Finding | None:
    """At least twice the steps at the same budget, stored or probed, break at most a point more."""
    steps = max(s.steps for s in evidence.counted)
    found = [finding for finding in (_stored(evidence, steps), _probed(evidence, steps)) if finding]
    return max(found, key=lambda finding: finding.value - finding.threshold, default=None)


def _probed(evidence: Evidence, steps: int) -> Finding | None:
    probed, outcome = evidence.facts.get("longer"), evidence.broken_by("longer")
    if probed is None or outcome is None or probed.params["steps"] < 2 * steps:
        return None
    remedy = (stronger(),)
    advice = f"PGD of {probed.params['steps']} steps breaks more of a subset: run {evidence.advised(*remedy)}"
    return Finding(*outcome, advice, remedy)


def _stored(evidence: Evidence, steps: int) -> Finding | None:
    run = evidence.run
    if run is None:  # nothing longer was run; whether it would break more is for probes to find out
        return None
    more = [s for s in evidence.at(run.eps) if s.steps >= 2 * run.steps]
    if not more:
        return None
    strongest = min(more, key=lambda s: s.standing.mean())
    drop = run.standing.mean() - strongest.standing.mean()
    advice = f"{strongest.settings} breaks more: quote the worst case"
    if strongest.name == run.name:
        advice += f", or --set {run.name}.steps={strongest.steps}"
    return Finding(float(drop), POINT, advice)
