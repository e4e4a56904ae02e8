"""Linear bounds through a graph: CROWN with optimised slopes.

Zhang et al. 2018 (arXiv:1811.00866) for the backward pass; slopes by gradient ascent on the bound, Xu et al. 2021
(arXiv:2011.13824). Deviations: bounds of inner layers start as intervals and only inputs of ReLUs whose sign is open
are bounded linearly; slopes of inner layers are optimised for each of these bounds, not for the last one.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor

from robustkit.certify.graph import Graph
from robustkit.certify.operations import Interval, Reshape, Scale, elements
from robustkit.certify.region import Region
from robustkit.certify.relaxations import Relu

ELEMENTS = 2**19  # coefficients of one node at a time: these stay in a cache, and their memory is used again
LINEAR = 3e8  # coefficients that the linear bounds of one layer may take, a sample; above, its intervals stay
Inner = dict[int, Interval]  # of each relaxed node: bounds of its input
Slopes = Mapping[int, Tensor]


def backward(
    graph: Graph, inner: Inner, outputs: Mapping[int, Tensor], slopes: Slopes | None = None,
    splits: Slopes | None = None, seen: dict[int, Tensor] | None = None,
) -> tuple[Tensor, Tensor]:  # fmt: skip
    """Return a linear lower bound, on the image, of linear functions of nodes.

    Parameters
    ----------
    outputs : mapping of int to Tensor
        Coefficients (S, B, *shape) of nodes.
    slopes : mapping or None
        alpha of each ReLU, (S or 1, B, *shape); None: adaptive.
    splits : mapping or None
        Multipliers that are added to the coefficients of a ReLU's input (S or 1, B, *shape).
    seen : dict or None
        Filled with the coefficients of each relaxed node's output.

    Returns
    -------
    tuple of Tensor
        Coefficients (S, B, C, H, W) and constants (S, B).
    """
    held = dict(outputs)
    first = next(iter(outputs.values()))
    bias: Tensor = first.new_zeros(first.shape[:2])
    for at in range(max(held), 0, -1):
        a = held.pop(at, None)
        if a is None:
            continue
        node = graph.nodes[at]
        operation = node.operation
        assert operation is not None
        if operation.relaxed:
            low, high = inner[at]
            if seen is not None:
                seen[at] = a
            parts, shift = operation.relaxed_backward(a, low, high, slopes.get(at) if slopes else None)  # type: ignore[attr-defined]
            if splits is not None and at in splits:
                parts = [parts[0] + splits[at]]
        else:
            parts, shift = operation.backward(a)
        bias = bias + shift
        for source, part in zip(node.inputs, parts, strict=True):
            held[source] = held[source] + part if source in held else part
    if 0 not in held:
        held[0] = first.new_zeros(*first.shape[:2], *graph.nodes[0].shape)
    return held[0], bias


@dataclass
class Bounded:
    """Bounds of all relaxed nodes' inputs over a region, and how each was found."""

    graph: Graph
    region: Region
    inner: Inner = field(default_factory=dict)
    by_interval: list[int] = field(default_factory=list)  # nodes that were too large for linear bounds

    def lower(self, outputs: Mapping[int, Tensor], slopes: Slopes | None = None) -> Tensor:
        """Return lower bounds (S, B) of linear functions of nodes."""
        return self.region.lower(*backward(self.graph, self.inner, outputs, slopes))

    def select(self, rows: Tensor) -> Bounded:
        """Return the bounds of some of the samples, which may be changed."""
        # In one order whatever the layout of the images and weights: places of a layer are counted.
        inner = {at: (low[rows].contiguous(), high[rows].contiguous()) for at, (low, high) in self.inner.items()}
        return Bounded(self.graph, self.region.select(rows), inner, self.by_interval)


@torch.no_grad()
def bound(graph: Graph, region: Region, optimise: Callable[..., Tensor] | None = None) -> Bounded:
    """Bound the input of every relaxed node of a graph over a region.

    Parameters
    ----------
    optimise : callable or None
        Of (bounded, node, coefficients (S, B, *shape)): lower bounds (S, B), better than those of adaptive slopes.
    """
    found = Bounded(graph, region)
    intervals: list[Interval] = [region.interval()]
    mixed = [0]  # how many operations lose what their inputs share, up to each node; beyond 1 intervals are loose
    for at, node in enumerate(graph.nodes[1:], 1):
        operation = node.operation
        assert operation is not None
        source = node.inputs[0]
        if operation.relaxed:
            loose = mixed[source] > 1 or (mixed[source] == 1 and not region.boxed)
            if loose and not isinstance(graph.nodes[source].operation, Relu):
                intervals[source] = _tightened(found, source, intervals[source], optimise)
            found.inner[at] = intervals[source]
            mixed.append(max(mixed[source], 1) + (0 if isinstance(operation, Relu) else 1))
        else:
            mixed.append(max(mixed[i] for i in node.inputs) + (0 if isinstance(operation, Scale | Reshape) else 1))
        intervals.append(operation.interval(*(intervals[i] for i in node.inputs)))
    return found


def _tightened(found: Bounded, source: int, known: Interval, optimise: Callable[..., Tensor] | None) -> Interval:
    """Return linear bounds of the numbers of a node whose sign is open, where they are better than the known ones."""
    low, high = (end.flatten(1).clone() for end in known)
    before = [elements(node.shape) for node in found.graph.nodes[:source]]
    undecided = (low < 0) & (high > 0)
    large = undecided.sum(1) * sum(before) > LINEAR
    if bool(large.any()):
        found.by_interval.append(source)
    undecided &= ~large[:, None]
    most = int(undecided.sum(1).max())
    if not most:
        return known
    places = (
        undecided.to(torch.int8).topk(most, dim=1, sorted=False).indices
    )  # padded by decided ones, which cost only time
    chunk = max(1, ELEMENTS // (2 * max([*before, low.shape[1]]) * len(low)))
    for part in torch.split(places, chunk, dim=1):
        a = low.new_zeros(part.shape[1], *low.shape).scatter_(-1, part.T.unsqueeze(-1), 1.0)
        a = torch.cat([a, -a]).view(2 * part.shape[1], len(low), *found.graph.nodes[source].shape)
        value = optimise(found, source, a) if optimise else found.lower({source: a})
        below, above = value.chunk(2)
        low.scatter_(1, part, torch.maximum(low.gather(1, part), below.T))
        high.scatter_(1, part, torch.minimum(high.gather(1, part), -above.T))
    shape = found.graph.nodes[source].shape
    return low.view(-1, *shape), high.view(-1, *shape)


def unit(a: Sequence[Tensor | None], graph: Graph) -> dict[int, Tensor]:
    """Return coefficients of the outputs of a graph by node; None: an output that is not looked at."""
    held: dict[int, Tensor] = {}
    for at, one in zip(graph.outputs, a, strict=True):
        if one is not None:
            held[at] = held[at] + one if at in held else one
    return held
