"""Across norms and attacks: who withstands all norms, and how near each attack came to the best of all.

Never imports torch.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence

import numpy as np
import numpy.typing as npt

from robustkit.functional.stats import wilson_of
from robustkit.metrics.optimality import reach, won
from robustkit.records.cells import Run, canonical
from robustkit.records.samples import HERE, NOT_ATTACKED
from robustkit.records.schema import ORDER, UnionCase, WorstCase
from robustkit.records.schema_optimality import Optimality
from robustkit.trust import Scored
from robustkit.trust._escalate import Known

Doubles = npt.NDArray[np.float64]


def unions(known: Known, at: Sequence[Mapping[str, float]], worst: Sequence[WorstCase]) -> list[UnionCase]:
    """Return who withstands every norm, at each of the budgets that go together.

    Parameters
    ----------
    worst : sequence of WorstCase
        Of the same ensemble: their verdicts.
    """
    verdicts = {(w["norm"], w["eps"]): w["verdict"] for w in worst if w["ensemble"] == known.record.id}
    found = []
    for budgets in at:
        right: Doubles = np.minimum.reduce([known.worst(norm, eps).correctness for norm, eps in budgets.items()])
        found.append(
            UnionCase(
                ensemble=known.record.id, budgets=dict(budgets), robust_accuracy=float(right.mean()),
                ci95=list(wilson_of(float(right.mean()), len(right))),
                verdict=max((verdicts[budget] for budget in budgets.items()), key=ORDER.index),
            )
        )  # fmt: skip
    return found


def optimality(known: Known, clean: Run) -> Iterator[Optimality]:
    """Yield how near each attack that was asked for came to the best of everything that ran in its norm.

    Cina et al. 2024 (AttackBench, arXiv:2404.19460) define it on distances; on budgets it is the same ratio of areas.
    Only norms in which several attacks ran have it, and only attacks that aim at no label.
    """
    untargeted = [run for run in known.runs if not run.run.cell.targeted]
    asked = {id(run) for run in known.requested}
    for norm in dict.fromkeys(run.run.cell.norm for run in untargeted):
        here = [run for run in untargeted if run.run.cell.norm == norm]
        groups: dict[str, list[Scored]] = {}
        for run in here:
            groups.setdefault(canonical([run.name, run.run.cell.backend, run.run.cell.params]), []).append(run)
        if len(groups) > 1:
            best = _Best(known, norm, here, clean.samples.correctness)
            for runs in groups.values():
                if own := [run for run in runs if id(run) in asked]:
                    yield from best.rated(own)


class _Best:
    """The pointwise best of everything that ran on an ensemble in a norm."""

    def __init__(self, known: Known, norm: str, runs: Sequence[Scored], clean: Doubles) -> None:
        self._known, self._norm, self._clean = known, norm, clean
        every = {id(run.run): run for run in runs}.values()
        taken = [self._taken(run) for run in every]
        distances, drops = (np.stack(part) for part in zip(*taken, strict=True))
        self._up_to = reach(distances, drops)
        self._area = float(won(distances, drops, self._up_to).max(0).mean())

    def _taken(self, run: Scored) -> tuple[Doubles, Doubles]:
        """Return how far each image (N,) was moved, and how much less likely it is right there."""
        samples = run.run.samples
        distance = np.where(samples.failed, 0.0, samples.distance(self._norm, run.elements))
        drop: Doubles = (self._clean - samples.correctness).clip(0.0)
        return distance, drop

    def rated(self, runs: Sequence[Scored]) -> Iterator[Optimality]:
        """Yield the optimality of one attack, given its runs; nothing where no attack took anything."""
        cell, smallest = runs[0].run.cell, runs[0].run.cell.eps is None
        if smallest:
            up_to, best = self._up_to, self._area
            eps, area = [], float(won(*self._taken(runs[0]), up_to).mean())
        else:
            by = {run.eps: run for run in sorted(runs, key=lambda run: run.eps)}
            eps, up_to = list(by), max(by)
            area = _area(eps, [self._drop(run.correctness) for run in by.values()])
            best = _area(eps, [self._drop(self._known.worst(self._norm, one).correctness) for one in eps])
        if best <= 0 or cell.attack is None:
            return
        forwards, backwards = _passes({id(run.run): run.run for run in runs}.values())
        yield Optimality(
            ensemble=self._known.record.id, attack=cell.attack.name, backend=cell.backend, params=cell.params,
            norm=self._norm, targeted=False, eps=eps, up_to=up_to, optimality=min(1.0, area / best),
            forwards=forwards, backwards=backwards,
        )  # fmt: skip

    def _drop(self, correctness: Doubles) -> float:
        return float((self._clean - correctness).clip(0.0).mean())


def _area(eps: Sequence[float], drops: Sequence[float]) -> float:
    """Return the area under a curve from (0, 0) through its points, by the trapezoidal rule."""
    x, y = np.array([0.0, *eps]), np.array([0.0, *drops])
    return float(((y[1:] + y[:-1]) / 2 * np.diff(x)).sum())


def _passes(runs: Iterable[Run]) -> tuple[float, float]:
    """Return forward and backward passes for each attacked sample, of all runs; what a run took over cost nothing."""
    every = list(runs)
    attacked = np.logical_or.reduce([run.samples.status != NOT_ATTACKED for run in every]).sum()
    own = [(run.samples, run.samples.carried == HERE) for run in every]
    forwards = sum(int(samples.forwards[here].sum()) for samples, here in own)
    backwards = sum(int(samples.backwards[here].sum()) for samples, here in own)
    return forwards / max(1, int(attacked)), backwards / max(1, int(attacked))
