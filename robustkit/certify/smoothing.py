"""Randomised smoothing: what a network answers most often under Gaussian noise, and in which l2 ball that is certain.

Cohen, Rosenfeld and Kolter 2019, arXiv:1902.02918: a class that is answered with probability p under noise of standard
deviation sigma is the smoothed network's answer within sigma * quantile(p); the Clopper-Pearson bound of p from a
sample makes that hold with a probability of at least 1 - failure for each image. Deviation: noise is drawn by sample
(:mod:`robustkit.functional.sampling`), so that no answer depends on how images are batched.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from scipy.stats import beta, norm
from torch import Tensor

from robustkit.base.errors import UserError
from robustkit.functional.batching import in_parts
from robustkit.functional.sampling import SampleGenerator

FIRST = 100  # draws that choose the class; the bound is from others
FAILURE = 0.001
ABSTAINED = -1


@dataclass(frozen=True)
class Smoothed:
    """Answers of a smoothed network, int64 (B,), -1 where it abstains, and certain l2 radii, float64 (B,)."""

    answer: np.ndarray[tuple[int], np.dtype[np.int64]]
    radius: np.ndarray[tuple[int], np.dtype[np.float64]]


def check_sigma(sigma: float) -> None:
    """Raise a :class:`UserError` if there is no noise."""
    if not 0 < sigma < float("inf"):
        raise UserError(
            f"sigma {sigma:g} is out of range; the noise of smoothing must be above 0, like 0.25 (pixels in [0, 1])."
        )


def smooth(
    answer: Callable[[Tensor], Tensor], x: Tensor, ids: Tensor, *, sigma: float, draws: int, seed: int = 0,
    failure: float = FAILURE, batch_size: int = 256,
) -> Smoothed:  # fmt: skip
    """Return the smoothed answers to images.

    Parameters
    ----------
    answer : callable
        Of images (B, C, H, W): outputs (B, L), of which the largest is the answer. Noise is not clipped to [0, 1].
    ids : Tensor of int64, (B,)
        By which the noise is drawn.
    sigma : float
        Standard deviation of the noise, in pixels of [0, 1].
    draws : int
        Of which the bound is made; 100 others choose the class.
    failure : float
        Probability with which a radius may be wrong.

    Raises
    ------
    UserError
        If sigma is not above zero.
    """
    check_sigma(sigma)
    first = _counts(answer, x, ids, sigma, FIRST, seed, "smoothing, class", batch_size)
    chosen = first.argmax(1)
    counts = _counts(answer, x, ids, sigma, draws, seed, "smoothing, bound", batch_size)
    hits = counts[np.arange(len(chosen)), chosen]
    share = lower_bound(hits, draws, failure)
    sure = share > 0.5
    radius = np.where(sure, sigma * norm.ppf(np.where(sure, share, 0.5)), 0.0)
    return Smoothed(np.where(sure, chosen, ABSTAINED), radius)


def lower_bound(hits: np.ndarray, draws: int, failure: float) -> np.ndarray:
    """Return the one-sided Clopper-Pearson lower bound of a probability, from hits among draws."""
    return np.where(hits > 0, beta.ppf(failure, np.maximum(hits, 1), draws - hits + 1), 0.0)


@torch.no_grad()
def _counts(
    answer: Callable[[Tensor], Tensor], x: Tensor, ids: Tensor, sigma: float, draws: int, seed: int, stream: str,
    batch_size: int,
) -> np.ndarray:  # fmt: skip
    """Return how often each class is answered, (B, L): all draws of an image side by side, in as many as fit."""
    generator = SampleGenerator(seed, ids.to(x.device), stream)
    found = None
    each = max(1, batch_size // len(x))
    most = each * len(x)
    for at in range(0, draws, each):
        noisy = [x + sigma * generator.normal(x.shape[1:], x.device) for _ in range(min(each, draws - at))]
        rows = torch.cat(noisy)
        parts, most = in_parts(lambda part, rows=rows: answer(rows[part]), len(rows), most)  # fewer where memory ends
        out = torch.cat(parts)
        votes = torch.nn.functional.one_hot(out.argmax(-1), out.shape[-1]).view(len(noisy), len(x), -1).sum(0)
        found = votes if found is None else found + votes
    assert found is not None
    counts: np.ndarray = found.cpu().numpy()
    return counts
