"""The last search of attacks in l0: results that change fewer elements, a forward pass for each halving."""

from __future__ import annotations

import torch
from torch import Tensor

from robustkit.attacks._ascent import Model, value_and_gradient
from robustkit.attacks._boundary import Nearest, gap
from robustkit.attacks._parts import forward
from robustkit.functional.trace import Trace


def fewest(model: Model, nearest: Nearest, trace: Trace) -> None:
    """Bisect how many elements of each result are needed, the changed ones as they are, then all of them to the edge.

    The gradient g of the gap at the result orders them. First the changes delta_i of largest g_i delta_i are kept and
    the others undone. Then elements go to the edge of the box that raises the gap, those of largest |g_i| room_i first:
    on a linear boundary no fewer can do. Both cost a forward and a backward pass, and a forward pass a halving; where
    no fewer do, nothing changes.
    """
    for edge in (False, True):
        rows = torch.nonzero((nearest.distance > 1) & torch.isfinite(nearest.distance)).squeeze(1)
        if len(rows) == 0:
            return
        _bisect(model, nearest, rows, edge, trace)


def _bisect(model: Model, nearest: Nearest, rows: Tensor, edge: bool, trace: Trace) -> None:
    origin, end, y = nearest.origin[rows], nearest.x[rows], nearest.y[rows]
    _, _, g = value_and_gradient(model, end, y, lambda z, y: gap(z, y, nearest.targeted), backward=True)
    trace.count(rows, forwards=1, backwards=1)
    if edge:
        end = torch.where(g > 0, 1.0, torch.where(g < 0, 0.0, origin)).to(origin.dtype)
    delta = (end - origin).flatten(1)
    worth = (g.flatten(1) * delta).masked_fill(delta == 0, float("-inf"))
    rank = torch.empty_like(worth, dtype=torch.int64)
    order = worth.argsort(dim=1, descending=True, stable=True)
    rank.scatter_(1, order, torch.arange(worth.shape[1], device=worth.device).expand_as(order))
    low, high = torch.zeros_like(rows), nearest.distance[rows].long()
    while True:
        at = torch.nonzero(high - low > 1).squeeze(1)
        if len(at) == 0:
            return
        middle = (low[at] + high[at]) // 2
        kept = (rank[at] < middle[:, None]).view_as(end[at])
        point = torch.where(kept, end[at], origin[at])
        won = nearest.update(rows[at], point, forward(model, point, rows[at], trace))
        low[at], high[at] = torch.where(won, low[at], middle), torch.where(won, middle, high[at])
