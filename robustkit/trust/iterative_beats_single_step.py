"""A single step does not break what many steps cannot."""

from __future__ import annotations

from robustkit.trust import Evidence, Finding, check
from robustkit.trust._evidence import POINT
from robustkit.trust._stronger import stronger


@check("iterative-beats-single-step", source="Athalye et al. 2018, arXiv:1802.00420, section 3.1")
def iterative_beats_single_step(evidence: Evidence) -> Finding | None:
    """At most one sample in a hundred is broken by FGSM alone."""
    run = evidence.run
    if run is None or run.steps < 2:
        return None
    single = [s for s in evidence.at(run.eps) if s.name == "fgsm"]
    if not single:
        return None
    only = float((run.standing & ~single[0].standing).mean())
    remedy = (stronger(),)
    return Finding(
        only,
        POINT,
        f"FGSM breaks what this attack cannot: gradients may be masked; run {evidence.advised(*remedy)}",
        remedy,
    )
