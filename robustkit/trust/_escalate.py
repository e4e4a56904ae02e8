"""What to run next where a number is suspect, and the path that was taken. Never imports torch."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from robustkit.attacks import spec as attack_spec
from robustkit.base.errors import RunError
from robustkit.base.names import ESCALATION, VOTES
from robustkit.functional.stats import wilson
from robustkit.records.cells import EnsembleRecord, Facts, Spec
from robustkit.records.samples import Samples
from robustkit.records.schema import Check, Escalation, EscalationStep, Verdict
from robustkit.records.store import Store
from robustkit.study.distortion import largest
from robustkit.study.plan import FollowUp, Study
from robustkit.trust import ORDER, Evidence, judge, remedies
from robustkit.trust._evidence import Scored
from robustkit.trust._plan import BACKWARD, NORMS, Item, clean_of, facts_for, load, plan, requested_runs
from robustkit.trust._stronger import stronger
from robustkit.trust.outsider import ladder

STRONGEST = "strongest-run"  # the check of a worst case that no single number has
NEXT = "next-strongest"  # why an attack follows where no check failed
GENERATIONS = (60, 80, 240, 480)  # of the last resorts, each from other starts; the usual budget is for the first two


@dataclass(frozen=True)
class Known:
    """Everything in the store about one ensemble: runs that were asked for, those that followed, and probes."""

    record: EnsembleRecord
    classes: int
    shape: tuple[int, ...]
    requested: list[Scored]
    follow_ups: list[tuple[FollowUp, Scored]]
    facts: list[tuple[Item, Facts]]
    doubts: tuple[str, ...] = ()
    command: str = "robustkit evaluate"
    given: str = ""

    @classmethod
    def of(cls, study: Study, store: Store, record: EnsembleRecord) -> Known:
        """Read the store; a RunError if a cell or a probe of the study is not in it."""
        runs = requested_runs(study, store, record)
        clean, most = store.get(study.clean(record)), clean_of(study, store, record)
        elements = math.prod(study.dataset.shape)
        pairs = study.escalated(record)
        follow_ups = [(more, Scored(store.get(cell), more.eps, most, elements)) for more, cell in pairs]
        items = plan(study, record, clean, runs)
        facts = load(store, items)
        if len(facts) < len(items):  # a verdict without its probes would be too good
            raise RunError(
                f"the store '{store.folder}' lacks {len(items) - len(facts)} of the trust probes; "
                "run the same `robustkit evaluate` again."
            )
        doubts = (*_concerns(study, record), *_unlikely(clean.samples))
        classes, shape = len(study.dataset.classes), study.dataset.shape
        return cls(record, classes, shape, runs, follow_ups, facts, doubts, study.command, study.given)

    @property
    def runs(self) -> list[Scored]:
        """All white-box runs."""
        return [*self.requested, *(run for _, run in self.follow_ups)]

    def evidence(self, run: Scored, among: Sequence[Scored] | None = None) -> Evidence:
        """Return the evidence for the number of one run, among all runs unless others are given."""
        norm = run.run.cell.norm
        facts = facts_for(self.facts, norm, run.eps, run)
        return Evidence.of(run, self.runs if among is None else among, facts=facts, **self._own(norm))

    def _own(self, norm: str) -> dict[str, Any]:
        return {
            "classes": self.classes, "largest": largest(norm, self.shape), "doubts": self.doubts,
            "members": self.record.members,
            "command": self.command, "given": self.given,
        }  # fmt: skip

    def worst(self, norm: str, eps: float, after: int | None = None) -> Evidence:
        """Return the evidence for the worst case at a budget, ``after`` so many of all runs that followed.

        Those at smaller budgets count as well: what they broke is broken here.
        """
        followed = [run for _, run in self.follow_ups[:after] if run.run.cell.norm == norm and run.eps <= eps]
        runs = [*self.requested, *followed]
        facts = facts_for(self.facts, norm, eps, None)
        return Evidence(None, runs, eps, norm, facts=facts, **self._own(norm))

    def judged(self, worst: Evidence) -> tuple[Verdict, list[Check]]:
        """Return verdict and checks of a worst case: never better than those of the strongest run behind it.

        Of equally strong runs the best rated vouches for the number.
        """
        verdict, checks = judge(worst)
        fewest = min(run.standing.sum() for run in worst.counted)
        strongest = [run for run in worst.counted if run.standing.sum() == fewest]
        rated = [(judge(self.evidence(run, worst.siblings))[0], run.settings) for run in strongest]
        best, name = min(rated, key=lambda pair: ORDER.index(pair[0]))
        passed = ORDER.index(best) <= ORDER.index(verdict)
        advice = "" if passed else f"the strongest run behind it, {name}, is {best} itself: see its checks"
        own = Check(name=STRONGEST, passed=passed, value=float(not passed), threshold=0.0, advice=advice)
        return max(verdict, best, key=ORDER.index), [*checks, own]

    def budgets(self) -> list[tuple[str, float]]:
        """Return every (norm, eps) at which something was run, ascending."""
        return sorted({(run.run.cell.norm, run.eps) for run in self.runs})


def _concerns(study: Study, record: EnsembleRecord) -> list[str]:
    """Return what an audit found that puts every number of an ensemble in doubt."""
    members = study.suite_requests.get("audit", {}).get("members", ())
    found = [x for member in members if member["ensemble"] == record.id for x in member["findings"] if x["concern"]]
    return list(dict.fromkeys(f"{x['what']}: {x['value']} ({x['evidence']})" for x in found))


def _unlikely(clean: Samples) -> list[str]:
    """Return what is wrong with the answers to the clean images."""
    if clean.failed.any():
        return ["outputs that are not finite on clean images"]
    n, commonest = len(clean.y), np.bincount(clean.y).max() / len(clean.y)
    if wilson(int(clean.right.sum()), n)[0] <= commonest:
        return [f"a clean accuracy of {clean.right.mean():.3f} is no better than always one answer ({commonest:.3f})"]
    return []


def next_round(study: Study, store: Store, most: float) -> tuple[FollowUp, ...]:
    """Return the attacks that the failing checks of the worst cases advise and that were not run yet.

    Where no check advises any, a number is attacked further by what breaks most a pass, and at last, if it is that of a
    single model or more than usual may be spent, by a slow last resort.

    Parameters
    ----------
    most : float
        What may follow at a budget, in forward passes for each sample, a backward pass counted as two; once
        that is spent, no further round is begun there.
    """
    found: list[FollowUp] = []
    for record in study.ensembles:
        known = Known.of(study, store, record)
        for norm, eps in known.budgets():
            here = [run for more, run in known.follow_ups if (more.norm, more.eps) == (norm, eps)]
            if norm in NORMS and eps > 0 and sum(map(_passes, here)) < most * study.dataset.n:
                found += _advised(known, norm, eps, study.eot, most)
    return tuple(found)


def last_resorts(members: int, most: float) -> tuple[Spec, ...]:
    """Return with what an escalation ends that may cost ``most`` forward passes for each sample; nothing if with none.

    What members offer is found in a tenth of AutoAttack's passes. One model offers nothing but more starts, and what
    those leave just short of the boundary only a search of another kind finds. What one such search finds is half
    chance, so that there is a second.
    """
    if most <= (0.0 if members < 2 else ESCALATION):
        return ()
    every = GENERATIONS[: 2 if most <= ESCALATION else None]
    return tuple(attack_spec("recombine", generations=count) for count in every)


def _advised(known: Known, norm: str, eps: float, eot: int, most: float) -> list[FollowUp]:
    evidence = known.worst(norm, eps)
    wanted: list[tuple[Spec, list[str]]] = []
    found = [(name, finding.remedy) for name, finding in remedies(evidence)]
    if any(check["name"] == STRONGEST and not check["passed"] for check in known.judged(evidence)[1]):
        found.append((STRONGEST, (stronger(),)))  # as strong a run whose own checks pass vouches for the number
    for name, remedy in found:
        for spec in remedy:
            bare = replace(spec, params={key: value for key, value in spec.params.items() if key != "eot"})
            if evidence.ran(bare, spec.params.get("eot", eot)):
                continue
            same = [names for other, names in wanted if other == spec]
            if same:
                same[0].append(name)
            else:
                wanted.append((spec, [name]))
    if not wanted and (further := _further(known, evidence, most)):
        wanted.append((further, [NEXT]))
    return [FollowUp(known.record.key, eps, norm, spec, tuple(names)) for spec, names in wanted]


def _further(known: Known, evidence: Evidence, most: float) -> Spec | None:
    """Return what a worst case is attacked with next although no check asks for it; None where nothing is left."""
    if not evidence.standing.any():
        return None
    record = known.record
    rungs = (*ladder(record.members, record.fusion in VOTES), *last_resorts(record.members, most))
    return next((rung for rung in rungs if not evidence.ran(rung)), None)


def _passes(run: Scored) -> int:
    return int(run.run.samples.forwards.sum() + BACKWARD * run.run.samples.backwards.sum())


def path(known: Known, norm: str, eps: float) -> Escalation | None:
    """Return how the worst case at a budget went down, attack by attack; None where nothing followed."""
    every = enumerate(known.follow_ups, 1)
    steps = [(count, more, run) for count, (more, run) in every if (more.norm, more.eps) == (norm, eps)]
    if not steps:
        return None
    before = known.worst(norm, eps, 0)
    made: list[EscalationStep] = []
    verdict, checks = known.judged(before)
    first = verdict
    for count, more, run in steps:
        evidence = known.worst(norm, eps, None if run is steps[-1][2] else count)
        verdict, checks = known.judged(evidence)
        made.append(
            EscalationStep(
                attack=run.name, params=dict(more.attack.params), because=list(more.because),
                robust_accuracy=float(evidence.correctness.mean()), verdict=verdict,
                seconds=float(run.run.samples.seconds.sum()),
            )
        )  # fmt: skip
    return Escalation(
        ensemble=known.record.id, eps=eps, norm=norm, before=float(before.correctness.mean()), verdict_before=first,
        path=made, robust_accuracy=made[-1]["robust_accuracy"], verdict=verdict, left=_left(checks),
    )  # fmt: skip


def _left(checks: Sequence[Check]) -> list[str]:
    return [check["name"] for check in checks if not check["passed"]]
