"""What became of each sample of one ensemble under every attack: the rows of ``samples.csv``. Never imports torch."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

Ints = npt.NDArray[np.int64]
Doubles = npt.NDArray[np.float64]


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
    """

    ensemble: str
    ids: Ints
    labels: Ints
    predictions: Ints
    clean: Doubles
    attacked: Sequence[Doubles]
