"""How alike the features of two layers are: linear CKA with unbiased HSIC, over batches too. Pure NumPy, float64.

CKA = HSIC(K, L) / sqrt(HSIC(K, K) HSIC(L, L)), K and L the linear Gram matrices of two layers (Kornblith et al. 2019),
HSIC the unbiased estimate of Song et al. 2012. Over batches the three HSICs are summed first and divided at the end
(minibatch CKA, Nguyen et al. 2021): of an unbiased estimate that is again one, of a ratio it would not be.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.floating[Any]]
FEWEST = 4  # samples that the unbiased estimate needs


def linear_cka(a: Floats, b: Floats) -> float:
    """Return the linear CKA of two feature matrices (N, D1) and (N, D2), N > 3, about [0, 1].

    1: equal up to rotation and scale; 0: unrelated, where the estimate may be a little below 0; NaN: a constant layer.
    """
    return float(cka(hsic(np.stack([gram(a), gram(b)])))[0, 1])


def gram(features: Floats) -> Floats:
    """Return the Gram matrix (N, N) of features (N, D), centred for accuracy: HSIC itself does not see the mean."""
    x = np.asarray(features, np.float64)
    x = x - x.mean(0)
    product: Floats = x @ x.T
    return product


def hsic(grams: Floats) -> Floats:
    """Return the unbiased HSIC of every pair of T layers, (T, T), from their Gram matrices (T, N, N).

    (tr(KL) + 1'K1 1'L1 / ((N - 1)(N - 2)) - 2 1'KL1 / (N - 2)) / (N (N - 3)), the diagonals of K and L set to 0.

    Raises
    ------
    ValueError
        If N < 4.
    """
    k = np.array(grams, np.float64)
    n = k.shape[1]
    if n < FEWEST:
        raise ValueError(f"unbiased HSIC needs {FEWEST} samples, not {n}")
    k[:, np.arange(n), np.arange(n)] = 0.0
    flat, rows, sums = k.reshape(len(k), -1), k.sum(1), k.sum((1, 2))
    whole = flat @ flat.T + np.outer(sums, sums) / ((n - 1) * (n - 2)) - 2 / (n - 2) * rows @ rows.T
    estimate: Floats = whole / (n * (n - 3))
    return estimate


def cka(hsics: Floats) -> Floats:
    """Return the CKA of every pair of layers, (T, T), from their HSICs, of one batch or summed over batches."""
    own = np.diag(hsics)
    scale = np.sqrt(np.clip(np.outer(own, own), 0.0, None))
    there = scale > 0
    return np.where(there, hsics / np.where(there, scale, 1.0), np.nan)


def batches(n: int, size: int) -> Sequence[slice]:
    """Return n samples as even batches of at most ``size``, none of fewer than four unless n is; none where n < 4."""
    if n < FEWEST:
        return []
    edges = np.linspace(0, n, max(1, min(-(-n // max(size, FEWEST)), n // FEWEST)) + 1).round().astype(int)
    return [slice(int(a), int(b)) for a, b in zip(edges[:-1], edges[1:], strict=True)]
