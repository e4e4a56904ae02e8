"""Can a robust accuracy be believed? Checks on stored runs, and the verdict that follows. Never imports torch.

These are the checks that need no further pass of the model: each reads one evaluation and its neighbours in the store.
Thresholds: ``docs/trust.md``.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from robustkit.records import ERROR, OVER_BUDGET, Cell, Run
from robustkit.schema import Check, Verdict

POINT = 0.01  # one point of robust accuracy
UNFINISHED = 0.05  # share of its whole range by which the loss may still move over the last iterations
LAST = 10  # iterations that count as the last ones


@dataclass(frozen=True)
class Evidence:
    """One white-box run, and every white-box run of the same ensemble on the same data, itself included."""

    run: Run
    siblings: Sequence[Run]

    def at(self, **same: float) -> list[Run]:
        """Return the siblings with this run's norm and direction whose attack parameters equal ``same``."""
        return [
            s
            for s in self.siblings
            if s.cell.targeted == self.run.cell.targeted
            and _params(s.cell)["norm"] == _params(self.run.cell)["norm"]
            and all(_params(s.cell).get(k) == v for k, v in same.items())
        ]


def stands(run: Run) -> npt.NDArray[np.bool_]:
    """Return which samples (N,) a run left standing: still classified correctly, and the attack did not crash."""
    result: npt.NDArray[np.bool_] = (run.samples.prediction == run.samples.y) & (run.samples.status != ERROR)
    return result


def judge(evidence: Evidence) -> tuple[Verdict, list[Check]]:
    """Run every check that applies and return the verdict with them."""
    checks = [check for function in CHECKS if (check := function(evidence)) is not None]
    failed = {check["name"] for check in checks if not check["passed"]}
    if failed & INVALIDATING:
        return "invalid", checks
    return ("suspect" if failed else "trusted"), checks


def _completed(evidence: Evidence) -> Check | None:
    """No batch crashed and nothing came back as NaN."""
    share = float((evidence.run.samples.status == ERROR).mean())
    return _check(
        "completed", share, 0.0, "the attack crashed on these samples: read the run's warnings and fix the cause"
    )


def _within_budget(evidence: Evidence) -> Check | None:
    """The attack kept to the ball and the box by itself."""
    share = float((evidence.run.samples.status == OVER_BUDGET).mean())
    return _check(
        "within-budget",
        share,
        0.0,
        "the attack left its budget and was projected back: it may be weaker than it claims",
    )


def _optimisation_finished(evidence: Evidence) -> Check | None:
    """The running best loss of the samples that still stand no longer moves over the last iterations."""
    samples, steps = evidence.run.samples, _params(evidence.run.cell).get("steps", 1)
    if steps <= LAST or samples.history.shape[1] <= LAST:
        return None
    history = samples.history[: len(samples.history), : steps + 1]
    rows = stands(evidence.run)[: len(history)] & np.isfinite(history).all(1)
    if not rows.any():
        return None
    best = np.maximum.accumulate(history[rows], axis=1)
    span = best[:, -1] - best[:, 0]
    moved = (best[:, -1] - best[:, -1 - LAST]) / np.where(span > 0, span, 1.0)
    value = float(moved.mean())
    advice = f"the loss still rises: run it longer, --set {_name(evidence)}.steps={2 * steps}"
    return _check("optimisation-finished", value, UNFINISHED, advice)


def _iterations_suffice(evidence: Evidence) -> Check | None:
    """A run at the same budget with at least twice the steps is not stronger by more than a point."""
    params = _params(evidence.run.cell)
    steps = params.get("steps", 1)
    longer = [s for s in evidence.at(eps=params["eps"]) if _params(s.cell).get("steps", 1) >= 2 * steps]
    if not longer:
        return None
    drop = stands(evidence.run).mean() - min(stands(s).mean() for s in longer)
    most = max(_params(s.cell)["steps"] for s in longer)
    advice = (
        f"a longer attack ({most} steps) breaks more: quote the worst case, or --set {_name(evidence)}.steps={most}"
        if "steps" in params
        else "an iterative attack breaks more: quote the worst case, not a single-step attack"
    )
    return _check("iterations-suffice", float(drop), POINT, advice)


def _stronger_with_eps(evidence: Evidence) -> Check | None:
    """Robust accuracy never rises along the eps sweep by more than a point."""
    cell = evidence.run.cell
    params = _params(cell)
    sweep = [s for s in evidence.at() if s.cell.attack and cell.attack and s.cell.attack.name == cell.attack.name]
    smaller = [
        s
        for s in sweep
        if _params(s.cell).get("steps") == params.get("steps") and _params(s.cell)["eps"] < params["eps"]
    ]
    if not smaller:
        return None
    rise = stands(evidence.run).mean() - min(stands(s).mean() for s in smaller)
    advice = "a smaller eps breaks more: gradients may be masked; add restarts and another loss, --set NAME.loss=margin"
    return _check("stronger-with-eps", float(rise), POINT, advice.replace("NAME", _name(evidence)))


def _iterative_beats_single_step(evidence: Evidence) -> Check | None:
    """At most one sample in a hundred is broken by FGSM alone."""
    params = _params(evidence.run.cell)
    single = [s for s in evidence.at(eps=params["eps"]) if s.cell.attack and s.cell.attack.name == "fgsm"]
    if not single or params.get("steps", 1) < 2:
        return None
    only = float((stands(evidence.run) & ~stands(single[0])).mean())
    advice = "FGSM breaks what this attack cannot: gradients may be masked; add restarts, --set NAME.restarts=5"
    return _check("iterative-beats-single-step", only, POINT, advice.replace("NAME", _name(evidence)))


CHECKS: tuple[Callable[[Evidence], Check | None], ...] = (
    _completed,
    _within_budget,
    _optimisation_finished,
    _iterations_suffice,
    _stronger_with_eps,
    _iterative_beats_single_step,
)
INVALIDATING = {"completed"}


def _check(name: str, value: float, threshold: float, advice: str) -> Check:
    passed = value <= threshold + 1e-9
    return Check(name=name, passed=bool(passed), value=value, threshold=threshold, advice="" if passed else advice)


def _params(cell: Cell) -> dict[str, float]:
    return dict(cell.attack.params) if cell.attack else {}


def _name(evidence: Evidence) -> str:
    return evidence.run.cell.attack.name if evidence.run.cell.attack else ""
