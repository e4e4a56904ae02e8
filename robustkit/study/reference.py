"""The attack that stands beside every number: which one, by norm and ensemble. Never imports torch."""

from __future__ import annotations

from robustkit.attacks import available
from robustkit.attacks import spec as attack_spec
from robustkit.base.names import VOTES
from robustkit.records.cells import Spec

REFERENCE = "quorum"  # the strongest attack at the cost of a PGD of 100 steps
RESTARTS, VOTES_RESTARTS = 4, 8  # of it; every start breaks other samples of a vote, where PGD stands and costs more
ONE_RESTARTS = 6  # where there is one member, whose runs differ in their start and in two scales alone
# Where quorum does not work: a long run of the first of these that is registered, once for every budget of the norm.
# They look for the smallest perturbation; the order is AttackBench's (arXiv:2404.19460).
SPARSE: dict[str, tuple[str, ...]] = {"l1": ("pdpgd", "fmn"), "l0": ("sigma-zero", "fmn")}
SPARSE_STEPS = 500


def reference_name(norm: str) -> str:
    """Return the name of the reference in a norm."""
    return available(SPARSE[norm], norm)[0] if norm in SPARSE else REFERENCE


def reference_for(fusion: str, members: int, norm: str = "linf") -> Spec:
    """Return the reference of an ensemble in a norm, by its fusion rule and how many members it fuses."""
    if norm in SPARSE:
        return attack_spec(reference_name(norm), steps=SPARSE_STEPS)
    several = VOTES_RESTARTS if fusion in VOTES else RESTARTS
    return attack_spec(REFERENCE, restarts=several if members > 1 else ONE_RESTARTS)
