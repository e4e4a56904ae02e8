"""An attack of another family than those that ran does not lower the number: what makes it worth trusting."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from robustkit.attacks import attack, spec
from robustkit.functional.stats import allowed
from robustkit.records.cells import Spec
from robustkit.trust import Evidence, Finding, check, probe
from robustkit.trust._evidence import Bools, families
from robustkit.trust._stronger import stronger

if TYPE_CHECKING:
    from robustkit.trust._job import Job
BALLS = ("linf", "l2")  # norms that they all work in
# The first whose family did not run. MORA is first: of everything published it lowers most per pass, where there are
# members; without members it is a restart of what a scale-free attack does.
CHALLENGERS: tuple[tuple[str, int, dict[str, Any]], ...] = (
    ("mora", 2, {"steps": 32, "restarts": 1}),
    ("apgd-t", 1, {"steps": 25, "targets": 3}),
    ("quorum", 1, {"restarts": 2}),
    ("square", 1, {"queries": 500}),
)


def ladder(members: int, votes: bool = False) -> tuple[Spec, Spec]:
    """Return what follows on a worst case, what breaks most a pass first.

    Reweighing one member is nothing: there the second aims at three classes in turn. Few long runs of it break more of
    what many short ones leave than as many passes in shorter runs. Of votes it is a second opinion and no more.
    """
    if members < 2:
        return stronger(), spec("apgd-t", steps=50, targets=3)
    return stronger(), spec("mora", restarts=1 if votes else 2)


def challenger(ran: frozenset[str], members: int) -> tuple[str, Spec] | None:
    """Return the family and the attack that tries to lower a number made of other families; None where all ran."""
    for name, least, params in CHALLENGERS:
        (own,) = families(name)
        if members >= least and own not in ran:
            return own, spec(name, **params)
    return None


# 236 samples are as few as tell a drop of two points from none with 95 % confidence, and allow one broken sample.
@probe("outsider", per="budget", challenger=True, samples=236, every_budget=True, quick={}, full={})
def outsider(job: Job) -> dict[str, Bools]:
    """An attack of a family that did not run, on what still stands."""
    return {"broken": job.broken_by(Spec.from_json(job.params["by"]))}


@check("holds-against-outsiders", source="robustkit; Carlini et al. 2019, arXiv:1902.06705, section 5.8")
def holds_against_outsiders(evidence: Evidence) -> Finding | None:
    """An attack of another family breaks too few of the samples that stand for the number to be two points too high."""
    probed, outcome = evidence.facts.get("outsider"), evidence.broken_by("outsider")
    if probed is None or outcome is None:
        return None
    name = probed.params["by"]["name"]
    rungs = ladder(members=2 if name == "mora" else 1)
    remedy = rungs if evidence.run else (next((a for a in rungs if not evidence.ran(a)), rungs[-1]),)
    advice = f"{name}, which works in another way, breaks more: run {evidence.advised(*remedy)}"
    n = len(probed.rows)
    whole = n == len(evidence.standing)
    return Finding(outcome[0], outcome[1] if whole else allowed(n) / n, advice, remedy)


@check(
    "tried-by-others",
    leaves="unchecked",
    unit="1: none has tried",
    source="robustkit; Carlini et al. 2019, arXiv:1902.06705, section 5.8",
)
def tried_by_others(evidence: Evidence) -> Finding | None:
    """An attack of another family than those that ran has tried to lower the number, on enough samples to see it."""
    untried = challenger(evidence.families, evidence.members)
    if untried is None and evidence.facts:
        return None
    remedy: tuple[Spec, ...] = ()
    if untried and evidence.norm in BALLS:
        short = untried[1] if evidence.run is None else spec(untried[1].name)  # as good a witness as the probe
        remedy = (stronger(4) if untried[0] == "members" else short,)
    advice = f"no attack of another kind has tried to lower this number: run {evidence.advised(*remedy)}"
    if evidence.norm not in BALLS:
        advice, remedy = _elsewhere(evidence), ()
    return Finding(float(not evidence.challenged), 0.0, advice, () if evidence.targeted else remedy)


def _elsewhere(evidence: Evidence) -> str:
    """Return what would try to lower a number in a norm that no probe knows: an attack of a kind that did not run."""
    kinds = {entry.name: families(entry.name) for entry in attack if evidence.norm in entry.facts["norms"]}
    others = [name for name, own in kinds.items() if not evidence.families.issuperset(own)]
    if not others:
        return f"no attack of another kind works in {evidence.norm}: the number is worth what ran, and no more"
    if evidence.run is None:  # whose advice is an escalation, and that knows no attacks of this norm
        return f"no attack of another kind has tried to lower this number: add {others[0]} to --attacks"
    return f"no attack of another kind has tried to lower this number: run {evidence.advised(spec(others[0]))}"
