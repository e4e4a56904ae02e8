"""How near an attack came to the best of several: areas between clean accuracy and a curve over distances.

Cina et al. 2024 (AttackBench, arXiv:2404.19460) define it on distances.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.floating]


def reach(distances: Floats, drops: Floats) -> float:
    """Return where the curve of the pointwise best ends: the largest of the samples' smallest distances.

    Parameters
    ----------
    distances : array, shape (A, N)
        How far each attack moved each sample.
    drops : array, shape (A, N)
        By how much less likely that made it to be right, from 0 to 1; 0 where the attack failed.
    """
    nearest = np.where(drops > 0, distances, np.inf).min(0)
    return float(nearest[np.isfinite(nearest)].max(initial=0.0))


def won(distances: Floats, drops: Floats, up_to: float) -> Floats:
    """Return the area that each sample adds between clean accuracy and the curve up to a distance; any shape."""
    clipped: Floats = (up_to - np.where(drops > 0, distances, np.inf)).clip(0.0)
    return drops * clipped


def optimality(distances: Floats, drops: Floats) -> Floats:
    """Return the area of each attack as a share of that of the pointwise best of all, (A,); NaN where none took any."""
    areas = won(distances, drops, reach(distances, drops))
    best = float(areas.max(0).mean())
    return areas.mean(1) / best if best > 0 else np.full(len(areas), np.nan)
