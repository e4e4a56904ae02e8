"""What became of each sample of one ensemble under every attack: the rows of ``samples.csv``. Never imports torch."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from robustkit.records.cells import Cell

Labels = npt.NDArray[np.unsignedinteger[Any]]
Ints = npt.NDArray[np.int64]
Doubles = npt.NDArray[np.float64]


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
    cells : sequence of Cell
        Of the attacks, in that order; empty where they are not known.
    """

    ensemble: str
    ids: Ints
    labels: Ints
    predictions: Ints
    clean: Doubles
    attacked: Sequence[Doubles]
    answers: Sequence[Answers] = ()
    cells: Sequence[Cell] = ()
