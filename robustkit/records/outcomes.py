"""What became of each sample of one ensemble: clean, under every attack, and at worst. Never imports torch.

The rows of ``samples.csv`` are made of it, and so is every comparison of two ensembles on the same samples.
"""

from __future__ import annotations

import functools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from robustkit.records.cells import Cell, canonical

Labels = npt.NDArray[np.unsignedinteger[Any]]
Ints = npt.NDArray[np.int64]
Doubles = npt.NDArray[np.float64]
Question = tuple[str, str, str, float, str, bool]  # attack, backend, norm, eps, settings and whether it aims at a label


@dataclass(frozen=True)
class Answers:
    """What an ensemble of M members answered on N images.

    Attributes
    ----------
    fused : (N,) unsigned int
        Of the ensemble.
    members : (M, N) unsigned int
        Of each of its members.
    """

    fused: Labels
    members: Labels


@dataclass(frozen=True)
class SampleOutcomes:
    """One ensemble on N samples.

    Attributes
    ----------
    ids, labels, predictions : (N,) int
        Of the samples; predictions are the fused ones on clean images.
    clean : (N,) float
        How likely each clean image is classified right: 1 or 0 unless answers are drawn.
    attacked : sequence of (N,) float
        The same under each attack, in the order of the ensemble's ``evaluations`` in ``results.json``.
    answers : sequence of Answers
        To the clean images, then under each attack in that order; empty where they are not known.
    budgets : sequence of (Cell, float)
        The cell and eps of each attack, in that order; empty where they are not known, as in what was stored.
    """

    ensemble: str
    ids: Ints
    labels: Ints
    predictions: Ints
    clean: Doubles
    attacked: Sequence[Doubles]
    answers: Sequence[Answers] = ()
    budgets: Sequence[tuple[Cell, float]] = ()

    @property
    def cells(self) -> list[Cell]:
        """Of the attacks; empty where they are not known."""
        return [cell for cell, _ in self.budgets]

    @functools.cached_property
    def worst(self) -> Mapping[tuple[str, float], Doubles]:
        """By (norm, eps) the least, (N,), over all attacks of that norm at this or a smaller budget."""
        runs = [(cell.norm, eps, right) for (cell, eps), right in zip(self.budgets, self.attacked, strict=True)]
        return {
            (norm, eps): np.minimum.reduce([right for other, own, right in runs if other == norm and own <= eps])
            for norm, eps in sorted({(norm, eps) for norm, eps, _ in runs})
        }

    def united(self, budgets: Mapping[str, float]) -> Doubles | None:
        """Return the least, (N,), over several norms, each at its budget; None where one of them was not run."""
        if any(at not in self.worst for at in budgets.items()):
            return None
        least: Doubles = np.minimum.reduce([self.worst[at] for at in budgets.items()])
        return least

    @functools.cached_property
    def by_question(self) -> Mapping[Question, int]:
        """The place of each attack, by what was asked, which is the same for another ensemble; of several the first."""
        found: dict[Question, int] = {}
        for at, (cell, eps) in enumerate(self.budgets):
            asked = (cell.name, cell.backend, cell.norm, eps, canonical(cell.params), cell.targeted)
            found.setdefault(asked, at)
        return found
