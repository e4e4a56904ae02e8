"""Can a robust accuracy be believed? One file for each check, with the probe it needs.

A *check* reads stored runs and facts and never a model. Where it needs passes of the model, its file holds a *probe* as
well, which notes plain facts of the first samples; those are stored, so that a verdict can be given again without any
pass. Sources, thresholds and what each check cannot see: ``docs/trust.md``. This module and the checks never import
torch; the probes are imported by what runs them.
"""

from __future__ import annotations

from robustkit.base.registry import Registry
from robustkit.functional.stats import finite
from robustkit.records.schema import ORDER, Check, Verdict
from robustkit.trust._evidence import Evidence, Finding, Probed, Scored

__all__ = ["ORDER", "Check", "Evidence", "Finding", "Probed", "Scored", "Verdict", "check", "judge", "probe"]

check = Registry("check", "robustkit.trust")
probe = Registry("probe", "robustkit.trust")


def judge(evidence: Evidence) -> tuple[Verdict, list[Check]]:
    """Run every check that applies to a number; return its verdict with them.

    A failing check makes the number suspect, or what it was registered with: ``leaves="invalid"`` or ``"unchecked"``.
    What a check finds is None where the model's outputs leave it no finite number; it has failed then.
    """
    checks: list[Check] = []
    verdict: Verdict = "trusted"
    for entry in check:
        finding: Finding | None = check.get(entry.name)(evidence)
        if finding is None:
            continue
        passed = finding.passed
        if not passed:
            verdict = max(verdict, entry.facts.get("leaves", "suspect"), key=ORDER.index)
        made = Check(
            name=entry.name, passed=passed, value=finite(finding.value), threshold=float(finding.threshold),
            advice="" if passed else finding.advice,
        )  # fmt: skip
        checks.append(made)
    return verdict, checks


def remedies(evidence: Evidence) -> list[tuple[str, Finding]]:
    """Return the failing checks of a number, by name, that name an attack which may settle them."""
    found = [(entry.name, check.get(entry.name)(evidence)) for entry in check]
    return [(name, finding) for name, finding in found if finding and not finding.passed and finding.remedy]
