"""Where members are drawn, the attack that is made for it does not break more."""

from __future__ import annotations

from robustkit.attacks import spec
from robustkit.trust import Evidence, Finding, check
from robustkit.trust._evidence import POINT


@check("drawn-members", source="Dbouk and Shanbhag 2022, arXiv:2206.06737")
def drawn_members(evidence: Evidence) -> Finding | None:
    """ARC ran and left no expected accuracy more than a point lower; asked where members are drawn at random.

    A loss averaged over members, and so expectation over transformation, stands still where they contradict each other.
    """
    if not any(s.drawn for s in evidence.counted) or evidence.targeted:
        return None
    remedy = (spec("arc"),)
    found = [float(s.correctness.mean()) for s in evidence.at(evidence.eps) if s.name == "arc"]
    drop = float(evidence.correctness.mean()) - min(found) if found else 1.0
    what = "arc breaks more: quote the worst case" if found else f"run {evidence.advised(*remedy)}"
    advice = "members are drawn, and a mean of their losses hides what they cannot hold together: " + what
    return Finding(drop, POINT, advice, () if found else remedy)
