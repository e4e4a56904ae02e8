"""Poisson numbers from uniform ones, by inverting the distribution function: one uniform number gives one count."""

from __future__ import annotations

import functools
import math

import torch
from torch import Tensor

from robustkit.functional.precision import divided
from robustkit.functional.sampling import CACHED

LEVELS = 256
STEPS = 2**24  # that a uniform number is a multiple of
BINS = 1024  # of the uniform numbers, for which the table says where to start
SPREAD = 9.0  # standard deviations from the mean between which all 2^24 uniform numbers fall


def poisson(rate: Tensor, peak: float, uniform: Tensor) -> Tensor:
    """Return the smallest k with P(X <= k) > u for X ~ Poisson(peak * rate), float32.

    Parameters
    ----------
    rate : Tensor
        In [0, 1]. Where all are 8-bit levels, one table for the 256 of them is searched; otherwise the count is found
        from the incomplete gamma function, in double precision.
    uniform : Tensor
        u in [0, 1), multiples of 2^-24, shape of ``rate``.
    """
    levels = (rate * (LEVELS - 1)).round()
    if not bool((divided(levels, LEVELS - 1) == rate).all()):
        return _by_search(rate.double() * peak, uniform.double()).float()
    counts = torch.empty_like(uniform)
    rows = max(1, CACHED // rate[0].numel()) if rate.device.type == "cpu" else len(rate)
    for start in range(0, len(rate), max(1, rows)):
        part = slice(start, start + rows)
        counts[part] = _from_table(levels[part].int(), peak, uniform[part])
    return counts


def _from_table(levels: Tensor, peak: float, uniform: Tensor) -> Tensor:
    """Look up where the number of a bin of u starts, and step on where the distribution rises within the bin."""
    below, count, guide = (part.to(levels.device) for part in _table(peak))
    steps = (uniform * STEPS).int().flatten()
    at = guide.index_select(0, levels.flatten().mul_(BINS).add_(steps // (STEPS // BINS)))
    left = (below.index_select(0, at) <= steps).nonzero()[:, 0]
    while len(left):
        at[left] += 1
        left = left[below[at[left]] <= steps[left]]
    return count.index_select(0, at).view_as(uniform)


@functools.lru_cache(maxsize=16)
def _table(peak: float) -> tuple[Tensor, Tensor, Tensor]:
    """Return P(X <= count) of each level and count in steps of u, rounded up, the counts, and where each bin starts.

    All flat: places of the first two are int32 numbers 0 .. 256 J, the bins of level l are l BINS .. (l + 1) BINS.
    """
    rates = peak * torch.arange(LEVELS, dtype=torch.float64) / (LEVELS - 1)
    width = math.ceil(2 * SPREAD * math.sqrt(peak) + 24)
    first = (rates - SPREAD * rates.sqrt() - 2).floor().clamp(min=0)
    counts = first[:, None] + torch.arange(width)
    below = _distribution(counts, rates[:, None])
    below[:, -1] = 1.0
    bins = (torch.arange(BINS, dtype=torch.float64) / BINS).expand(LEVELS, -1).contiguous()
    guide = torch.searchsorted(below, bins, right=True) + torch.arange(LEVELS)[:, None] * width
    steps = (below * STEPS).ceil()  # u is a whole number of steps: it is below one or not, rounded up or not
    return steps.flatten().int(), counts.flatten().float(), guide.flatten().int()


def _by_search(rate: Tensor, uniform: Tensor) -> Tensor:
    """Start at the normal approximation with its first correction, then step until the count fits."""
    z = torch.special.ndtri(uniform.clamp(2.0**-25, 1 - 2.0**-25))
    count: Tensor = (rate + z * rate.sqrt() + (z**2 - 1) / 6).floor().clamp(min=0)
    while True:
        low = uniform >= _distribution(count, rate)
        high = ~low & (count > 0) & (uniform < _distribution((count - 1).clamp(min=0), rate))
        if not bool((low | high).any()):
            return count
        count = count + low.double() - high.double()


def _distribution(count: Tensor, rate: Tensor) -> Tensor:
    """Return P(X <= count) = Q(count + 1, rate)."""
    inside: Tensor = torch.special.gammaincc(count + 1, rate.expand_as(count).clamp(min=1e-300))
    made: Tensor = torch.where(rate > 0, inside, torch.ones_like(inside))
    return made
