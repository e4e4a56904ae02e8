"""No other attack at the same budget is stronger."""

from __future__ import annotations

from robustkit.trust import Evidence, Finding, check
from robustkit.trust._evidence import POINT


@check("no-stronger-attack", source="Carlini et al. 2019, arXiv:1902.06705, section 5.8")
def no_stronger_attack(evidence: Evidence) -> Finding | None:
    """No other attack at the same budget, of less than twice the steps, breaks more than a point more."""
    run = evidence.run
    if run is None:
        return None
    others = [s for s in evidence.at(run.eps) if s is not run and s.steps < 2 * run.steps]
    if not others:
        return None
    strongest = min(others, key=lambda s: s.standing.mean())
    drop = run.standing.mean() - strongest.standing.mean()
    return Finding(drop, POINT, f"{strongest.name} breaks more at the same budget: quote the worst case")
