"""What a minimum-norm attack says: accuracy against distortion, and the median distance. Never imports torch."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from robustkit.records.cells import Run
from robustkit.records.schema import MinimumNorm

POINTS = 100  # of a stored curve, at most


def largest(norm: str, shape: Sequence[int]) -> float:
    """Return the size that no perturbation of an image (C, H, W) in [0, 1] exceeds."""
    elements = math.prod(shape)
    return {"l0": float(elements), "l1": float(elements), "l2": math.sqrt(elements), "linf": 1.0}[norm]


def minimum_norm(name: str, run: Run, clean: Run, elements: int) -> MinimumNorm:
    """Return the accuracy-versus-distortion curve of one run, over all samples, and its median distance.

    A sample that the clean model gets wrong has distance 0, one that was not broken, or crashed, has none: the median
    is null where that is more than half of them. ``elements`` is how many values an image has.
    """
    samples, attack = run.samples, run.cell.attack
    if attack is None:
        raise ValueError("a clean cell has no distances")
    broken = samples.prediction != samples.y
    distance = np.where(broken, samples.distance(run.cell.norm, elements), np.inf)
    distance[samples.failed] = 0.0  # a crash is never robustness
    finite = np.sort(distance[np.isfinite(distance)])
    at = np.unique(
        np.concatenate(
            [[0.0], finite[np.linspace(0, max(len(finite) - 1, 0), POINTS).astype(int)]] if len(finite) else [[0.0]]
        )
    )
    middle = float(np.median(distance)) if np.isfinite(distance).mean() > 0.5 else None
    clean_accuracy = float((clean.samples.prediction == clean.samples.y).mean())
    return MinimumNorm(
        ensemble=name,
        attack=attack.name,
        params=run.cell.params,
        norm=run.cell.norm,
        targeted=run.cell.targeted,
        clean_accuracy=clean_accuracy,
        found=float(np.isfinite(distance).mean()),
        median=middle,
        eps=[float(e) for e in at],
        accuracy=[float((distance > e).mean()) for e in at],
    )
