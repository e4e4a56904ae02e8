"""Attacks that are strong enough for a detector to matter: the smallest budget of a ladder that breaks nearly all."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from robustkit.evaluation.cell import broken
from robustkit.records.cells import Cell, EnsembleRecord, Run, Spec
from robustkit.records.samples import Samples
from robustkit.study.plan import Study

NEARLY_ALL = 0.95  # of the images that were classified right: from here on an attack counts as strong enough
LARGEST = 0.4  # linf: beyond this an image has little left of what it showed
RUNGS = 4  # of a norm in which a largest budget would depend on the size of the images
Bools = npt.NDArray[np.bool_]
Obtain = Callable[[Cell], Run]
Load = Callable[[Cell], Run | None]


@dataclass(frozen=True)
class Attacked:
    """What an attack at the budget that was chosen left of the images.

    Attributes
    ----------
    right : array of bool, shape (N,)
        Which images were classified right before: these alone are attacked in earnest.
    """

    spec: Spec
    cell: Cell
    samples: Samples
    right: Bools

    @property
    def adversarial(self) -> Bools:
        """Which images (N,) the attack made misclassified."""
        made: Bools = broken(self.samples, targeted=False) & self.right
        return made

    @property
    def share(self) -> float:
        """Share of the images that were right which the attack made wrong; 0 where none was right."""
        return float(self.adversarial.sum() / max(1, self.right.sum()))


def rungs(first: float, norm: str) -> tuple[float, ...]:
    """Return the budgets that are tried: ``first``, doubled up to 0.4 in linf, three times in another norm."""
    if first == 0:  # what cannot grow
        return (first,)
    if norm != "linf":
        return tuple(first * 2**i for i in range(RUNGS))
    found = [first]
    while found[-1] < LARGEST - 1e-9:
        found.append(min(2 * found[-1], LARGEST))
    return tuple(found)


def cells(study: Study, record: EnsembleRecord, spec: Spec, data: str) -> Iterator[Cell]:
    """Yield the cells of an attack on the fused output, by ascending budget.

    They are those of the transfer suite: all steps are run, where a white-box cell stops at the first success, next to
    the boundary, where every detector is at its best.
    """
    *_, whole = study.transfer(record, spec, targeted=False)
    for eps in rungs(study.transfer_eps, whole.norm):
        yield replace(whole, eps=eps, data=data)


def strong_enough(
    study: Study, record: EnsembleRecord, spec: Spec, data: str, clean: Samples, obtain: Obtain
) -> Attacked:
    """Return an attack at the smallest budget that breaks 95 % of the images that were right, else at the largest."""
    *_, (_, found) = _climbed(study, record, spec, data, clean, obtain)
    if found is None:
        raise ValueError("a run of the ladder is missing")
    return found


def lacking(study: Study, record: EnsembleRecord, spec: Spec, data: str, clean: Samples, load: Load) -> Cell | None:
    """Return the cell that has to be run next to know :func:`strong_enough`; None where all that it needs are there."""
    climbed = _climbed(study, record, spec, data, clean, load)
    return next((cell for cell, found in climbed if found is None), None)


def _climbed(
    study: Study, record: EnsembleRecord, spec: Spec, data: str, clean: Samples, load: Load
) -> Iterator[tuple[Cell, Attacked | None]]:
    """Yield each rung, up to the first that is enough, and what it left; None where its run is not there."""
    for cell in cells(study, record, spec, data):
        run = load(cell)
        found = None if run is None else Attacked(spec, cell, run.samples, clean.right)
        yield cell, found
        if found is not None and found.share >= NEARLY_ALL:
            return
