"""What to run next where a number is suspect, and the path that was taken. Never imports torch."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from robustkit.base.errors import RunError
from robustkit.records.cells import EnsembleRecord, Facts, Spec
from robustkit.records.schema import Check, Escalation, EscalationStep
from robustkit.records.store import Store
from robustkit.study.distortion import largest
from robustkit.study.plan import FollowUp, Study
from robustkit.trust import Evidence, judge, remedies
from robustkit.trust._evidence import Scored
from robustkit.trust._plan import BACKWARD, NORMS, Item, clean_of, facts_for, load, plan, requested_runs


@dataclass(frozen=True)
class Known:
    """Everything in the store about one ensemble: runs that were asked for, those that followed, and probes."""

    record: EnsembleRecord
    classes: int
    shape: tuple[int, ...]
    requested: list[Scored]
    follow_ups: list[tuple[FollowUp, Scored]]
    facts: list[tuple[Item, Facts]]

    @classmethod
    def of(cls, study: Study, store: Store, record: EnsembleRecord) -> Known:
        """Read the store; a RunError if a cell or a probe of the study is not in it."""
        runs = requested_runs(study, store, record)
        clean = clean_of(study, store, record)
        follow_ups = [(more, Scored(store.get(cell), more.eps, clean)) for more, cell in study.escalated(record)]
        items = plan(study, record, store.get(study.clean(record)), runs)
        facts = load(store, items)
        if len(facts) < len(items):  # a verdict without its probes would be too good
            raise RunError(
                f"the store '{store.folder}' lacks {len(items) - len(facts)} of the trust probes; "
                "run the same `robustkit evaluate` again."
            )
        return cls(record, len(study.dataset.classes), study.dataset.shape, runs, follow_ups, facts)

    @property
    def runs(self) -> list[Scored]:
        """All white-box runs."""
        return [*self.requested, *(run for _, run in self.follow_ups)]

    def evidence(self, run: Scored) -> Evidence:
        """Return the evidence for the number of one run."""
        norm = run.run.cell.norm
        facts = facts_for(self.facts, norm, run.eps, run)
        return Evidence.of(run, self.runs, facts=facts, classes=self.classes, largest=largest(norm, self.shape))

    def worst(self, norm: str, eps: float, after: int | None = None) -> Evidence:
        """Return the evidence for the worst case at a budget, ``after`` so many of the runs that followed there."""
        followed = [run for _, run in self.follow_ups if (run.run.cell.norm, run.eps) == (norm, eps)]
        runs = [*self.requested, *followed[:after]]
        facts = facts_for(self.facts, norm, eps, None)
        return Evidence(None, runs, eps, norm, facts=facts, classes=self.classes, largest=largest(norm, self.shape))

    def budgets(self) -> list[tuple[str, float]]:
        """Return every (norm, eps) at which something was run, ascending."""
        return sorted({(run.run.cell.norm, run.eps) for run in self.runs})


def next_round(study: Study, store: Store, most: float) -> tuple[FollowUp, ...]:
    """Return the attacks that the failing checks of the worst cases advise and that were not run yet.

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
                found += _advised(known, norm, eps, study.eot)
    return tuple(found)


def _advised(known: Known, norm: str, eps: float, eot: int) -> list[FollowUp]:
    evidence = known.worst(norm, eps)
    done = [(s.name, dict(s.run.cell.attack.params), s.eot) for s in evidence.at(eps) if s.run.cell.attack]
    wanted: list[tuple[Spec, list[str]]] = []
    for name, finding in remedies(evidence):
        for spec in finding.remedy:
            bare = {key: value for key, value in spec.params.items() if key != "eot"}
            if (spec.name, bare, spec.params.get("eot", eot)) in done:
                continue
            same = [names for other, names in wanted if other == spec]
            if same:
                same[0].append(name)
            else:
                wanted.append((spec, [name]))
    return [FollowUp(known.record.key, eps, norm, spec, tuple(names)) for spec, names in wanted]


def _passes(run: Scored) -> int:
    return int(run.run.samples.forwards.sum() + BACKWARD * run.run.samples.backwards.sum())


def path(known: Known, norm: str, eps: float) -> Escalation | None:
    """Return how the worst case at a budget went down, attack by attack; None where nothing followed."""
    steps = [(more, run) for more, run in known.follow_ups if (more.norm, more.eps) == (norm, eps)]
    if not steps:
        return None
    before = known.worst(norm, eps, 0)
    made: list[EscalationStep] = []
    verdict, checks = judge(before)
    first = verdict
    for count, (more, run) in enumerate(steps, 1):
        evidence = known.worst(norm, eps, count)
        verdict, checks = judge(evidence)
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
