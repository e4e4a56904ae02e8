"""The last search of minimum-norm attacks: from a result to a smaller one, in a few passes, in any norm."""

from __future__ import annotations

import torch
from torch import Tensor

from robustkit.attacks._ascent import Model, value_and_gradient
from robustkit.attacks._boundary import Nearest, gap, refine, to_hyperplane
from robustkit.attacks._parts import forward
from robustkit.functional.trace import Trace

BEYOND = 1.002  # how far the step onto the linearised boundary goes, as a share of it


def shortest(model: Model, nearest: Nearest, low_gap: Tensor, search_steps: int, trace: Trace) -> None:
    """Make the results smaller where a few passes can; with no ``search_steps`` nothing is tried.

    In l0 see :func:`fewest`. In the other norms the line to x is searched, in ``search_steps`` steps; then the boundary
    is linearised at each result, and the nearest point of that plane and the box to x is tried, a little beyond it, so
    that no rounding decides (exact for a linear model, but for that). ``low_gap`` is the gap of all samples at x.
    """
    if search_steps == 0:
        return
    if nearest.norm == "l0":
        fewest(model, nearest, trace)
        return
    refine(model, nearest, low_gap, search_steps, trace)
    rows = torch.nonzero((nearest.distance > 0) & torch.isfinite(nearest.distance)).squeeze(1)
    if len(rows):
        origin, end = nearest.origin[rows].flatten(1), nearest.x[rows]
        _, f, g = value_and_gradient(
            model, end, nearest.y[rows], lambda z, y: gap(z, y, nearest.targeted), backward=True
        )
        trace.count(rows, forwards=1, backwards=1)
        w = g.flatten(1)
        step = to_hyperplane(origin, w, f + (w * (origin - end.flatten(1))).sum(1), nearest.norm)
        point = (origin + BEYOND * step).clamp(0.0, 1.0).view_as(end)
        nearest.update_clear(rows, point, forward(model, point, rows, trace))


def fewest(model: Model, nearest: Nearest, trace: Trace) -> None:
    """Bisect how many elements of each result are needed where they go to the edge of the box: its own, then any.

    The gradient g of the gap at the result says to which edge an element goes, and in which order they are taken: those
    of largest |g_i| room_i first. Elements that the result leaves alone are not touched at first; then all may be: on a
    linear boundary no fewer can do. Both cost a forward and a backward pass, and a forward pass a halving; where no
    fewer do, nothing changes.
    """
    for changed in (True, False):
        rows = torch.nonzero((nearest.distance > 1) & torch.isfinite(nearest.distance)).squeeze(1)
        if len(rows) == 0:
            return
        _bisect(model, nearest, rows, changed, trace)


def _bisect(model: Model, nearest: Nearest, rows: Tensor, changed: bool, trace: Trace) -> None:
    origin, end = nearest.origin[rows], nearest.x[rows]
    edge, g = _edges(model, nearest, rows, end, trace)
    edge = edge.view_as(origin)
    end = torch.where(end != origin, edge, origin) if changed else edge
    delta = (end - origin).flatten(1)
    rank = _ranks((-g * delta).masked_fill(delta == 0, float("inf")))
    low, high = torch.zeros_like(rows), nearest.distance[rows].long()
    while True:
        at = torch.nonzero(high - low > 1).squeeze(1)
        if len(at) == 0:
            return
        middle = (low[at] + high[at]) // 2
        kept = (rank[at] < middle[:, None]).view_as(end[at])
        point = torch.where(kept, end[at], origin[at])
        won = nearest.update_clear(rows[at], point, forward(model, point, rows[at], trace))
        low[at], high[at] = torch.where(won, low[at], middle), torch.where(won, middle, high[at])


def exchange(model: Model, nearest: Nearest, rounds: int, trace: Trace) -> None:
    """Take a few elements out of each l0 result and one less in, those that are worth most once the others are out.

    The changed elements of smallest g_i d_i go back to x, all others to the edge of the box, and as many, less one, of
    largest |g_i| room_i are put in, g the gradient of the gap where the first have gone. Two go out at first, and one
    more after each round that does not succeed. A round costs three forward passes and two backward passes.
    """
    out = torch.full_like(nearest.y, 2)
    for _ in range(rounds):
        rows = torch.nonzero((nearest.distance > 1) & torch.isfinite(nearest.distance)).squeeze(1)
        if len(rows) == 0:
            return
        x, found, before = nearest.origin[rows].flatten(1), nearest.x[rows], nearest.distance[rows]
        point, g = _edges(model, nearest, rows, found, trace)
        changed = found.flatten(1) != x
        point = torch.where(changed, point, x)
        worth = (g * (point - x)).masked_fill(~changed, float("inf"))
        point = torch.where(_ranks(worth) < out[rows, None], x, point)
        edge, g = _edges(model, nearest, rows, point.view_as(found), trace)
        worth = (g * (edge - point)).masked_fill(point != x, -1.0)
        point = torch.where(_ranks(-worth) < out[rows, None] - 1, edge, point).view_as(found)
        nearest.update_clear(rows, point, forward(model, point, rows, trace))
        more = torch.minimum(out[rows] + 1, before.to(out.dtype))
        out[rows] = torch.where(nearest.distance[rows] < before, out[rows], more)


def _edges(model: Model, nearest: Nearest, rows: Tensor, point: Tensor, trace: Trace) -> tuple[Tensor, Tensor]:
    """Return where each element is worth most within the box, and the gradient of the gap at the points, (b, n)."""
    _, _, g = value_and_gradient(model, point, nearest.y[rows], lambda z, y: gap(z, y, nearest.targeted), backward=True)
    trace.count(rows, forwards=1, backwards=1)
    edge = torch.where(g > 0, 1.0, torch.where(g < 0, 0.0, point)).to(point.dtype)
    return edge.flatten(1), g.flatten(1)


def _ranks(values: Tensor) -> Tensor:
    """Return the place of each value in the rising order of its row, (b, n)."""
    order = values.argsort(dim=1, stable=True)
    ranks = torch.empty_like(order)
    return ranks.scatter_(1, order, torch.arange(values.shape[1], device=values.device).expand_as(order))
