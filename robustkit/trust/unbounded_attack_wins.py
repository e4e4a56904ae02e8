"""Without a budget every model falls."""

from __future__ import annotations

from typing import TYPE_CHECKING

from robustkit.trust import Evidence, Finding, check, probe
from robustkit.trust._evidence import Bools

if TYPE_CHECKING:
    from robustkit.trust._job import Job


@probe("unbounded", per="attack", rows="correct", usual=0.1, quick={}, full={})
def unbounded(job: Job) -> dict[str, Bools]:
    """Whether the same attack still fails where it may change everything: eps 1, or l2 the image's diameter."""
    return {"standing": ~job.broken_by(job.attack(job.largest), eps=job.largest)}


@check("unbounded-attack-wins", leaves="invalid", source="Athalye et al. 2018, arXiv:1802.00420, section 3.1")
def unbounded_attack_wins(evidence: Evidence) -> Finding | None:
    """The same attack without a budget leaves no more samples standing than guessing would."""
    probed = evidence.facts.get("unbounded")
    if probed is None:
        return None
    advice = "the attack fails even without a budget: it is broken, or the model hides its gradients from it"
    return Finding(probed.mean("standing"), 1 / evidence.classes, advice)
