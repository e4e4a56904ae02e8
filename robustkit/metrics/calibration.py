"""How far probabilities can be believed: NLL, Brier score, calibration error, and a temperature that mends them.

``log_p`` are log-probabilities (N, L), ``y`` the true labels (N,), ``z`` logits (N, L) (log-probabilities are logits,
too). NumPy and SciPy, float64.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy.optimize import minimize
from scipy.special import log_softmax

Ints = npt.NDArray[np.int64]
Floats = npt.NDArray[np.floating[Any]]
BINS = 15  # of the calibration error
COLDEST, HOTTEST = 0.01, 100.0  # temperatures that are looked at


def nll(log_p: Floats, y: Ints) -> float:
    """Return the mean negative log-likelihood of the true labels, in nats."""
    return -float(log_p[np.arange(len(y)), y].astype(np.float64).mean())


def brier(log_p: Floats, y: Ints) -> float:
    """Return the Brier score, the mean over samples of sum_l (p_l - [l = y])^2, in [0, 2]."""
    p = np.exp(log_p.astype(np.float64))
    p[np.arange(len(y)), y] -= 1
    return float((p**2).sum(1).mean())


@dataclass(frozen=True)
class Reliability:
    """Samples by confidence: a bin is open on the left and closed on the right, so that 1.0 is in the last one.

    Attributes
    ----------
    count : array
        Samples of each bin, (bins,).
    confidence, accuracy : array
        Their mean highest probability and the share that is right, (bins,); NaN in an empty bin.
    """

    count: Ints
    confidence: Floats
    accuracy: Floats

    @property
    def ece(self) -> float:
        """The mean gap between confidence and accuracy: sum_b (n_b / N) |accuracy_b - confidence_b|."""
        gaps = self.count * np.abs(self.accuracy - self.confidence)
        return float(gaps[self.count > 0].sum() / self.count.sum())


def reliability(log_p: Floats, y: Ints, bins: int = BINS) -> Reliability:
    """Sort samples into equally wide bins of confidence (Guo et al. 2017)."""
    p = np.exp(log_p.astype(np.float64))
    confidence, right = p.max(1), p.argmax(1) == y
    at = np.clip(np.ceil(confidence * bins).astype(int) - 1, 0, bins - 1)
    count = np.bincount(at, minlength=bins)
    some = np.where(count > 0, count, np.nan)
    return Reliability(count, np.bincount(at, confidence, bins) / some, np.bincount(at, right, bins) / some)


def ece(log_p: Floats, y: Ints, bins: int = BINS) -> float:
    """Return the expected calibration error, in [0, 1]: :attr:`Reliability.ece`."""
    return reliability(log_p, y, bins).ece


def tempered(z: Floats, temperature: float) -> Floats:
    """Return the log-probabilities log softmax(z / T), (N, L); the order of the labels stays as it is."""
    result: Floats = log_softmax(np.asarray(z, np.float64) / temperature, axis=1)
    return result


def fit_temperature(z: Floats, y: Ints) -> float:
    """Return the temperature in [0.01, 100] that makes the NLL of log softmax(z / T) smallest (Guo et al. 2017).

    L-BFGS on log T. The NLL is convex in 1 / T, so that there is one minimum; where it lies at a bound, the samples do
    not tell the temperature: samples that are all right ask for T = 0, useless ones for infinity.

    Raises
    ------
    ValueError
        If there is no sample, or a logit is not finite.
    """
    wide = np.asarray(z, np.float64)
    if not len(wide) or not np.isfinite(wide).all():
        raise ValueError(f"a temperature needs finite logits of at least one sample, not {wide.shape}")
    wide = wide - wide.max(1, keepdims=True)
    own = wide[np.arange(len(y)), y]

    def loss(at: Floats) -> tuple[float, Floats]:
        scale = np.exp(-at[0])  # 1 / T
        log_p = log_softmax(scale * wide, axis=1)
        slope = float(((np.exp(log_p) * wide).sum(1) - own).mean())  # of the NLL in 1 / T
        return -float(log_p[np.arange(len(y)), y].mean()), np.array([-scale * slope])

    low, high = np.log(COLDEST), np.log(HOTTEST)
    # Far out the NLL is flat to the last bit: whether the minimum is beyond a bound is asked of the slope there.
    if loss(np.array([low]))[1][0] >= 0:
        return COLDEST
    if loss(np.array([high]))[1][0] <= 0:
        return HOTTEST
    found = minimize(
        loss, np.zeros(1), jac=True, method="L-BFGS-B", bounds=[(float(low), float(high))],
        options={"ftol": 1e-15, "gtol": 1e-10},
    )  # fmt: skip
    return float(np.exp(found.x[0]))


def at_bound(temperature: float) -> bool:
    """Return whether a fitted temperature lies at a bound of what was looked at."""
    return not COLDEST < temperature < HOTTEST
