"""How much the attribution maps of members differ. Pure NumPy, float64; maps are (M, N, ...), all of one shape."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from robustkit.metrics.pairwise import pairs

Floats = npt.NDArray[np.floating[Any]]


def pair_cosines(maps: Floats) -> Floats:
    """Return the cosine of the angle between every two members' maps, (N, P), pairs i < j (SDDE paper, Figure 5).

    NaN where one of the two maps is zero everywhere: it has no direction.
    """
    flat, size = _unit(maps)
    columns = [np.where((size[i] > 0) & (size[j] > 0), (flat[i] * flat[j]).sum(1), np.nan) for i, j in pairs(len(maps))]
    return np.clip(np.stack(columns, 1), -1.0, 1.0) if columns else np.zeros((maps.shape[1], 0))


def map_variance(maps: Floats, *, normalised: bool = False) -> Floats:
    """Return the attribution variance of each sample, (N,): the sum over channels and pixels of Var_m(a_m).

    Design-diversity paper (Rosales et al. 2023), eq. 7; Var is the population's. It grows with the square of the
    maps' size, so with that of the logits. ``normalised`` gives each map unit L2 norm first: then it is
    1 - |mean_m a_m|^2, in [0, 1 - 1/M] where no map points against another, and at most 1.
    """
    values = _unit(maps)[0] if normalised else _flat(maps)
    variance: Floats = values.var(0).sum(1)
    return variance


def _unit(maps: Floats) -> tuple[Floats, Floats]:
    """Return maps (M, N, D) of unit norm, zero where they were zero, and their norms (M, N)."""
    flat = _flat(maps)
    size = np.linalg.norm(flat, axis=2)
    return flat / np.where(size > 0, size, 1.0)[:, :, None], size


def _flat(maps: Floats) -> Floats:
    return np.asarray(maps, np.float64).reshape(*maps.shape[:2], -1)
