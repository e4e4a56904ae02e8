"""Can a robust accuracy be believed? Checks on stored runs, and the verdict that follows. Never imports torch.

These are the checks that need no further pass of the model: each reads one evaluation and its neighbours in the store.
Thresholds: ``docs/trust.md``.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from robustkit.records import CONFIRMED, ERROR, HERE, MISSED, OVER_BUDGET, Run
from robustkit.schema import Check, Verdict

Bools = npt.NDArray[np.bool_]
SLACK = 1e-5  # relative rounding of a stored size
POINT = 0.01  # one point of robust accuracy
UNFINISHED = 0.05  # share of its whole range by which the loss may still move over the last iterations
LAST = 10  # iterations that count as the last ones


@dataclass(frozen=True)
class Scored:
    """A white-box run at a budget; a minimum-norm run has several."""

    run: Run
    eps: float

    @property
    def standing(self) -> Bools:
        """Which samples (N,) are left standing: classified correctly within eps, and the attack did not crash."""
        samples = self.run.samples
        result: Bools = samples.prediction == samples.y
        if self.run.cell.eps is None:  # broken, but only by more than eps
            result = result | (samples.size(self.run.cell.norm) > self.eps * (1 + SLACK))
        alive: Bools = result & (samples.status != ERROR)
        return alive

    @property
    def name(self) -> str:
        """Name of the attack."""
        return self.run.cell.name

    @property
    def steps(self) -> int:
        """Steps of the attack, 1 where it has none."""
        return int(self.run.cell.attack.params.get("steps", 1)) if self.run.cell.attack else 1


@dataclass(frozen=True)
class Evidence:
    """One scored run, and every scored white-box run of the same ensemble on the same data, itself included."""

    run: Scored
    siblings: Sequence[Scored]

    def at(self, eps: float | None = None) -> list[Scored]:
        """Return the siblings with this run's norm and aim, at one eps or at all of them."""
        own = self.run.run.cell
        return [
            s
            for s in self.siblings
            if s.run.cell.target == own.target and s.run.cell.norm == own.norm and (eps is None or s.eps == eps)
        ]


def judge(evidence: Evidence) -> tuple[Verdict, list[Check]]:
    """Run every check that applies and return the verdict with them."""
    checks = [check for function in CHECKS if (check := function(evidence)) is not None]
    failed = {check["name"] for check in checks if not check["passed"]}
    if failed & INVALIDATING:
        return "invalid", checks
    return ("suspect" if failed else "trusted"), checks


def _completed(evidence: Evidence) -> Check | None:
    """No batch crashed and nothing came back as NaN."""
    share = float((evidence.run.run.samples.status == ERROR).mean())
    return _check("completed", share, 0.0, "the attack crashed on these samples: see the run's warnings, fix the cause")


def _within_budget(evidence: Evidence) -> Check | None:
    """The attack kept to the ball and the box by itself."""
    share = float((evidence.run.run.samples.status == OVER_BUDGET).mean())
    return _check("within-budget", share, 0.0, "the attack left its budget and was projected back: it may be weaker so")


def _optimisation_finished(evidence: Evidence) -> Check | None:
    """The running best loss of the samples that still stand no longer moves over the last iterations."""
    run, steps = evidence.run, evidence.run.steps
    history = run.run.samples.history[:, : steps + 1]
    if run.run.cell.eps is None or steps <= LAST or history.shape[1] <= LAST:
        return None
    rows = run.standing[: len(history)] & np.isfinite(history).all(1)
    if not rows.any():
        return None
    best = np.maximum.accumulate(history[rows], axis=1)
    span = best[:, -1] - best[:, 0]
    moved = (best[:, -1] - best[:, -1 - LAST]) / np.where(span > 0, span, 1.0)
    advice = f"the loss still rises: run it longer, --set {run.name}.steps={2 * steps}"
    return _check("optimisation-finished", float(moved.mean()), UNFINISHED, advice)


def _iterations_suffice(evidence: Evidence) -> Check | None:
    """A run at the same budget with at least twice the steps is not stronger by more than a point."""
    run = evidence.run
    longer = [s for s in evidence.at(run.eps) if s.steps >= 2 * run.steps]
    if not longer:
        return None
    drop = run.standing.mean() - min(s.standing.mean() for s in longer)
    most = max(s.steps for s in longer)
    advice = (
        f"a longer attack ({most} steps) breaks more: quote the worst case, or --set {run.name}.steps={most}"
        if run.steps > 1
        else "an attack of more steps breaks more: quote the worst case, not this attack alone"
    )
    return _check("iterations-suffice", float(drop), POINT, advice)


def _no_stronger_attack(evidence: Evidence) -> Check | None:
    """No other attack at the same budget, of less than twice the steps, breaks more than a point more."""
    run = evidence.run
    others = [s for s in evidence.at(run.eps) if s is not run and s.steps < 2 * run.steps]
    if not others:
        return None
    strongest = min(others, key=lambda s: s.standing.mean())
    drop = run.standing.mean() - strongest.standing.mean()
    advice = f"{strongest.name} breaks more at the same budget: quote the worst case, not this attack alone"
    return _check("no-stronger-attack", float(drop), POINT, advice)


def _stronger_with_eps(evidence: Evidence) -> Check | None:
    """Robust accuracy never rises along the eps sweep by more than a point.

    What broke at a smaller eps is taken over and stands nowhere; how much of it this eps would have left standing is
    read from the samples that were attacked anew.
    """
    run = evidence.run
    smaller = [s for s in evidence.at() if (s.name, s.steps) == (run.name, run.steps) and s.eps < run.eps]
    if not smaller:
        return None
    carried = run.run.samples.carried
    tried, missed = (carried >= CONFIRMED).sum(), (carried == MISSED).sum()
    alone = run.standing.mean() + (carried != HERE).mean() * missed / max(1, tried)
    rise = alone - min(s.standing.mean() for s in smaller)
    advice = f"a smaller eps breaks more: gradients may be masked; try another loss, --set {run.name}.loss=margin"
    return _check("stronger-with-eps", float(rise), POINT, advice)


def _iterative_beats_single_step(evidence: Evidence) -> Check | None:
    """At most one sample in a hundred is broken by FGSM alone."""
    run = evidence.run
    single = [s for s in evidence.at(run.eps) if s.name == "fgsm"]
    if not single or run.steps < 2:
        return None
    only = float((run.standing & ~single[0].standing).mean())
    advice = f"FGSM breaks what this attack cannot: gradients may be masked; try --set {run.name}.restarts=5"
    return _check("iterative-beats-single-step", only, POINT, advice)


CHECKS: tuple[Callable[[Evidence], Check | None], ...] = (
    _completed,
    _within_budget,
    _optimisation_finished,
    _iterations_suffice,
    _no_stronger_attack,
    _stronger_with_eps,
    _iterative_beats_single_step,
)
INVALIDATING = {"completed"}


def _check(name: str, value: float, threshold: float, advice: str) -> Check:
    passed = value <= threshold + 1e-9
    return Check(name=name, passed=bool(passed), value=value, threshold=threshold, advice="" if passed else advice)
