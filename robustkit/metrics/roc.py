"""How well a score tells normal samples (positive, high) from others: ROC, areas, intervals. NumPy and scikit-learn."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from sklearn.metrics import auc, average_precision_score, roc_curve

Floats = npt.NDArray[np.floating[Any]]
RESAMPLES = 1000
TOGETHER = 2**15  # samples that are resampled together: they stay in the processor's cache
POINTS = 201  # of a stored curve


@dataclass(frozen=True)
class Roc:
    """What a detector is worth. Positive is normal: a score at or above the threshold is taken for normal.

    Attributes
    ----------
    auroc : float
        Area under the ROC curve.
    ci95 : tuple of float
        Its percentile bootstrap interval (both classes resampled).
    aupr, aupr_other : float
        Average precision with the normal samples as positive, and with the others.
    fpr95 : float
        Share of the others taken for normal at the first threshold that keeps at least 95 % of the normal ones.
    fpr, tpr : array
        The curve, at most 201 points each.
    """

    auroc: float
    ci95: tuple[float, float]
    aupr: float
    aupr_other: float
    fpr95: float
    fpr: Floats
    tpr: Floats


def roc(normal: Floats, others: Floats, *, seed: int = 0) -> Roc:
    """Return how well scores, higher = more normal, tell normal samples (N,) from others (N',).

    Raises
    ------
    ValueError
        If one of the two is empty or a score is not finite.
    """
    if not len(normal) or not len(others):
        raise ValueError(f"a ROC needs samples of both kinds, not {len(normal)} normal and {len(others)} others")
    truth = np.r_[np.ones(len(normal)), np.zeros(len(others))]
    values = np.r_[normal, others].astype(np.float64)
    if not np.isfinite(values).all():
        raise ValueError("a score is not finite")
    fpr, tpr, _ = roc_curve(truth, values)  # without the points on straight lines, which add nothing to the area
    return Roc(
        auroc=float(auc(fpr, tpr)),
        ci95=bootstrap(normal, others, seed=seed),
        aupr=float(average_precision_score(truth, values)),
        aupr_other=float(average_precision_score(1 - truth, -values)),
        fpr95=fpr_at(normal, others, 0.95),
        fpr=_thinned(fpr),
        tpr=_thinned(tpr),
    )


def fpr_at(normal: Floats, others: Floats, least: float) -> float:
    """Return the share of the others at or above the highest threshold that keeps a share ``least`` of the normal."""
    kept = math.ceil(least * len(normal) - 1e-9)  # rounding must not ask for one more
    return float((others >= np.sort(normal)[-kept]).mean())


def bootstrap(
    normal: Floats, others: Floats, *, resamples: int = RESAMPLES, level: float = 0.95, seed: int = 0
) -> tuple[float, float]:
    """Return the percentile bootstrap interval of the AUROC, each class resampled on its own.

    The AUROC of a resample is sum_i n(i) (m(below i) + m(up to i)) / (2 N N'), from how often each normal sample i was
    drawn, n, and how many of the drawn others, m, score below it and not above it, so that no resample is sorted.
    """
    rng = np.random.default_rng(seed)
    ascending = np.sort(others)
    below, up_to = np.searchsorted(ascending, normal, "left"), np.searchsorted(ascending, normal, "right")
    areas = []
    together = max(1, TOGETHER // max(len(normal), len(others)))
    for at in range(0, resamples, together):
        rows = min(together, resamples - at)
        n, m = (_drawn(rng, rows, len(group)) for group in (normal, others))
        reached = np.pad(np.cumsum(m, 1), ((0, 0), (1, 0)))
        areas.append((n * (reached[:, below] + reached[:, up_to])).sum(1))
    shares = np.concatenate(areas) / (2 * len(normal) * len(others))
    low, high = np.quantile(shares, [(1 - level) / 2, (1 + level) / 2])
    return float(low), float(high)


def _drawn(rng: np.random.Generator, rows: int, count: int) -> npt.NDArray[np.int64]:
    """Return how often each of ``count`` samples is drawn in ``rows`` resamples, (rows, count)."""
    drawn = rng.integers(0, count, (rows, count)) + count * np.arange(rows)[:, None]
    return np.bincount(drawn.ravel(), minlength=rows * count).reshape(rows, count)


def _thinned(values: Floats) -> Floats:
    if len(values) <= POINTS:
        return values
    kept: Floats = values[np.linspace(0, len(values) - 1, POINTS).round().astype(int)]
    return kept
