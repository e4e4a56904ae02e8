"""Certificates of fusion rules that are not linear in the logits: sound, and better than each member alone.

``mean-prob``: with d_k = z_k - z_y, a member's p_y - p_j is (1 - e^d_j) / (1 + sum_k e^d_k), which falls with d_j and
is monotone in every other d_k; bounds of the d_k bound it, and the sum over members must be above zero. Where that is
not enough, each member's difference is bounded by a line in d_j, and the sum of lines through all members at once.
``majority``: two members whose margins' sum is above zero for every pair of rivals are never wrong on the same image.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator

import torch
from torch import Tensor

from robustkit.certify.margins import Margins

CELLS = 256  # into which the range of a margin is cut to place a line
SLOPES = (0.5, 1.0, 2.0)  # times the slope of the chord: lines that are tried


def mean_prob(check: Margins, alone: Tensor) -> Tensor:
    """Return on which samples (B,) the mean probability of the label is proven the largest."""
    proven = alone.all(0)
    if bool(proven.all()):
        return proven
    low, high = _ranges(check)
    least = _difference(low, high)  # (M, L - 1, B)
    enough = (least.sum(0) > check.slack) | proven
    if bool(enough.all()):
        return enough.all(0)
    for factor in SLOPES:
        slope, height = _lines(low, high, factor)
        a = [one[..., None] * check.wanted for one in slope]
        enough |= check.raised([*a]) + height.sum(0) > check.slack
    return enough.all(0)


def _ranges(check: Margins) -> tuple[Tensor, Tensor]:
    """Return lower and upper bounds (M, L - 1, B) of each member's z_y - z_j."""
    each = torch.eye(check.members, dtype=torch.float64)
    return torch.stack([check.lower(w) for w in each]), torch.stack([-check.lower(w, -1.0) for w in each])


def _difference(low: Tensor, high: Tensor) -> Tensor:
    """Return lower bounds of each member's p_y - p_j, from bounds of its margins."""
    most, least = _exponentials(low, high)
    others = torch.where(low > 0, most.sum(1, keepdim=True) - most, least.sum(1, keepdim=True) - least)
    return _share(most, others)


def _exponentials(low: Tensor, high: Tensor) -> tuple[Tensor, Tensor]:
    """Return the largest and smallest e^d_k; beyond e^300 nothing is told apart."""
    return torch.exp((-low).clamp_max(300)), torch.exp((-high).clamp_max(300))


def _share(ratio: Tensor, others: Tensor) -> Tensor:
    """Return (1 - r) / (1 + r + others)."""
    return (1 - ratio) / (1 + ratio + others)


def _lines(low: Tensor, high: Tensor, factor: float) -> tuple[Tensor, Tensor]:
    """Return slope and height of a line below each member's p_y - p_j as a function of its margin, (M, L - 1, B) each.

    The function is monotone, so that its value at the lower end of a cell bounds it on the cell.
    """
    most, least = _exponentials(low, high)
    above, below = most.sum(1, keepdim=True) - most, least.sum(1, keepdim=True) - least
    ends = low + (high - low).clamp_min(0) * torch.linspace(0, 1, CELLS + 1, dtype=low.dtype, device=low.device).view(
        -1, 1, 1, 1
    )
    ratio = torch.exp((-ends).clamp_max(300))
    value = torch.where(ends > 0, _share(ratio, above), _share(ratio, below))
    slope = factor * ((value[-1] - value[0]) / (high - low).clamp_min(1e-9)).clamp_min(0)
    height = (value[:-1] - slope * ends[1:]).amin(0)
    return slope, height


def majority(check: Margins, alone: Tensor) -> Tensor:
    """Return on which samples (B,) the label is proven to have more votes than every other class."""
    members = check.members
    sure = alone.sum(0)
    proven = 2 * sure > members
    open_ = (~proven).nonzero()[:, 0]
    if not len(open_):
        return proven
    low = torch.stack([check.lower(w) for w in torch.eye(members, dtype=torch.float64)])
    rivals = ((low <= check.slack) & ~alone[:, None]).sum(0)  # how many members may vote for each class
    proven |= (sure > rivals).all(0)
    together = _wrong_together(check, alone, low)
    for at in (~proven).nonzero()[:, 0].tolist():
        proven[at] = 2 * _largest(together[:, :, at], ~alone[:, at]) < members
    return proven


def _wrong_together(check: Margins, alone: Tensor, low: Tensor) -> Tensor:
    """Return which two members may both be wrong on one image, (M, M, B)."""
    members, rivals = check.members, len(check.wanted)
    may = (~alone)[:, None] & (~alone)[None]
    for one, other in itertools.combinations(range(members), 2):
        if not bool(may[one, other].any()):
            continue
        first, second = (torch.tensor(part) for part in zip(*itertools.product(range(rivals), repeat=2), strict=True))
        open_ = (low[one, first] <= check.slack) & (low[other, second] <= check.slack)
        kept = open_.any(1).nonzero()[:, 0]
        a: list[Tensor | None] = [None] * members
        a[one], a[other] = check.wanted[first[kept]], check.wanted[second[kept]]
        excluded = (check.raised(a) > check.slack) | ~open_[kept] if len(kept) else torch.ones_like(open_[:1])
        may[one, other] &= ~excluded.all(0)
        may[other, one] = may[one, other]
    return may


def _largest(together: Tensor, wrong: Tensor) -> int:
    """Return how many members may be wrong on one image at most: the largest set of which each two may be."""
    for size in range(int(wrong.sum()), 0, -1):
        if any(
            all(bool(together[i, j]) for i, j in itertools.combinations(group, 2)) for group in _groups(wrong, size)
        ):
            return size
    return 0


def _groups(wrong: Tensor, size: int) -> Iterator[tuple[int, ...]]:
    return itertools.combinations(wrong.nonzero()[:, 0].tolist(), size)
