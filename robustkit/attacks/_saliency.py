"""The features that JSMA moves: the best single one, and the best pair without looking at all d^2 of them."""

from __future__ import annotations

import torch
from torch import Tensor

BLOCK = 64  # candidates compared with all others at a time
TOGETHER = 1024  # with more candidates than this, samples are searched one after the other, so that memory stays small
PAIRS_GPU = (
    2**26
)  # ... and on a GPU so many that this many pairs are compared at a time: 256 MiB for each of their sums


def best_feature(gain: Tensor, loss: Tensor) -> tuple[Tensor, Tensor]:
    """Return the feature with the largest saliency gain * loss among those with both positive, (b, 1), and if any is.

    ``gain`` (b, d) is how much a move raises the target, ``loss`` (b, d) how much it lowers the other classes; features
    that may not move are -inf in both.
    """
    score = torch.where((gain > 0) & (loss > 0), gain * loss, 0.0)
    value, feature = score.max(1, keepdim=True)
    return feature, value.squeeze(1) > 0


def best_pair(gain: Tensor, loss: Tensor) -> tuple[Tensor, Tensor]:
    """Return the pair of largest (gain_p + gain_q)(loss_p + loss_q), both sums positive, (b, 2), and if there is one.

    Exact, with O(d) memory, in three cuts. (1) A feature can be left out if, joined with the largest gain and the
    largest loss of all, it does not reach the best score among a few likely pairs. (2) So can one that two others equal
    or beat in both gain and loss: one of the two is not its partner, and putting it in instead makes no positive sum
    smaller; one sort and two running maxima find those with at most one such rival, a few dozen of 150,528 in practice.
    (3) These are compared block by block with those whose bound, as in (1) but for the block, reaches the best so far.
    """
    likely = (
        torch.where((gain > 0) & (loss > 0), gain * loss, gain + loss).topk(min(BLOCK, gain.shape[1]), dim=1).indices
    )
    u, v = gain.gather(1, likely), loss.gather(1, likely)
    known = _scores(u, v, u, v, likely[:, :, None] == likely[:, None, :]).amax((1, 2))
    bound = _product(gain + gain.amax(1, keepdim=True), loss + loss.amax(1, keepdim=True))
    index, gain, loss = _pack((bound > 0) & (bound >= known[:, None]), None, gain, loss)
    if gain.shape[1] < 2:
        return index.new_zeros((len(index), 2)), torch.zeros_like(known, dtype=torch.bool)
    order = gain.argsort(dim=1, descending=True, stable=True)
    index, gain, loss = (part.gather(1, order) for part in (index, gain, loss))
    first = loss.cummax(1).values
    second = torch.minimum(loss[:, 1:], first[:, :-1]).cummax(1).values
    kept = torch.isfinite(gain)
    kept[:, 2:] &= loss[:, 2:] > second[:, :-1]
    index, gain, loss = _pack(kept, index, gain, loss)
    rows = len(gain) if gain.shape[1] <= TOGETHER else _together(gain)
    found = [_search(*parts) for parts in zip(*(torch.split(t, rows) for t in (gain, loss, known)), strict=True)]
    return index.gather(1, torch.cat([pair for pair, _ in found])), torch.cat([score for _, score in found]) > 0


def _together(gain: Tensor) -> int:
    """Return how many samples of more than ``TOGETHER`` candidates are searched together."""
    return 1 if gain.device.type == "cpu" else max(1, PAIRS_GPU // (BLOCK * gain.shape[1]))


def _pack(kept: Tensor, index: Tensor | None, gain: Tensor, loss: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Move what is ``kept`` of each row to its front, in order, and cut the rows at the longest; gaps are -inf."""
    row, column = torch.nonzero(kept, as_tuple=True)
    place = (kept.cumsum(1) - 1)[row, column]
    shape = (len(kept), int(kept.sum(1).max()))
    packed = torch.zeros(shape, dtype=torch.int64, device=kept.device)
    packed[row, place] = column if index is None else index[row, column]
    u, v = gain.new_full(shape, float("-inf")), loss.new_full(shape, float("-inf"))
    u[row, place], v[row, place] = gain[row, column], loss[row, column]
    return packed, u, v


def _search(u: Tensor, v: Tensor, known: Tensor) -> tuple[Tensor, Tensor]:
    """Return the best pair among all candidates (b, k), the first of equals, as positions (b, 2), and its score (b,).

    ``known`` (b,) is a score that is reached; it only bounds the search.
    """
    count = u.shape[1]
    best, pair = torch.zeros_like(known), torch.zeros((len(u), 2), dtype=torch.int64, device=u.device)
    columns = torch.arange(count, device=u.device)
    for start in range(0, count, BLOCK):
        some = (u[:, start : start + BLOCK], v[:, start : start + BLOCK])
        later = columns
        if count > BLOCK:
            bound = _product(some[0].amax(1, keepdim=True) + u, some[1].amax(1, keepdim=True) + v)
            later = torch.nonzero((bound >= torch.maximum(known, best)[:, None]).any(0) & (columns > start)).squeeze(1)
        if len(later) == 0:
            continue
        barred = torch.arange(start, start + some[0].shape[1], device=u.device)[:, None] >= later
        value, at = _scores(*some, u[:, later], v[:, later], barred).flatten(1).max(1)
        found = torch.stack([start + at // len(later), later[at % len(later)]], 1)
        better = value > best
        best, pair = torch.where(better, value, best), torch.where(better[:, None], found, pair)
    return pair, best


def _scores(u1: Tensor, v1: Tensor, u2: Tensor, v2: Tensor, barred: Tensor) -> Tensor:
    """Return the score of every pair of (b, r) and (b, c), 0 where a sum is not positive or the pair is barred."""
    return _product(u1[:, :, None] + u2[:, None, :], v1[:, :, None] + v2[:, None, :]).masked_fill(barred, 0.0)


def _product(gain: Tensor, loss: Tensor) -> Tensor:
    return torch.where((gain > 0) & (loss > 0), gain * loss, 0.0)
