"""A larger budget never helps the defender."""

from __future__ import annotations

from robustkit.attacks import spec
from robustkit.records.samples import CONFIRMED, HERE, MISSED
from robustkit.trust import Evidence, Finding, check
from robustkit.trust._evidence import POINT, Scored
from robustkit.trust._stronger import stronger


@check("stronger-with-eps", source="Carlini et al. 2019, arXiv:1902.06705, section 4.4")
def stronger_with_eps(evidence: Evidence) -> Finding | None:
    """Robust accuracy never rises along the eps sweep by more than a point.

    What broke at a smaller eps is taken over and stands nowhere; how much of it this eps would have left standing is
    read from the samples that were attacked anew.
    """
    run = evidence.run
    if run is None:
        return None
    smaller = [s for s in evidence.at() if (s.name, s.steps) == (run.name, run.steps) and s.eps < run.eps]
    if not smaller:
        return None
    rise = _alone(run) - min(float(s.standing.mean()) for s in smaller)
    remedy = (stronger(), spec("square"))
    advice = f"a smaller eps breaks more: gradients may be masked; try another loss, {evidence.advised(*remedy)}"
    return Finding(rise, POINT, advice, remedy)


def _alone(run: Scored) -> float:
    """Return the robust accuracy that the run would have had if nothing had been taken over."""
    carried = run.run.samples.carried
    tried, missed = (carried >= CONFIRMED).sum(), (carried == MISSED).sum()
    return float(run.standing.mean() + (carried != HERE).mean() * missed / max(1, tried))
