"""The attack kept to its budget."""

from __future__ import annotations

from robustkit.records.samples import OVER_BUDGET
from robustkit.trust import Evidence, Finding, check


@check("within-budget", source="Carlini et al. 2019, arXiv:1902.06705, section 4.8")
def within_budget(evidence: Evidence) -> Finding:
    """The attack kept to the ball and the box by itself."""
    share = max(float((s.run.samples.status == OVER_BUDGET).mean()) for s in evidence.counted)
    return Finding(share, 0.0, "the attack left its budget and was projected back: it may be weaker so")
