"""Margins of an ensemble's members, and of weighted sums of them, bounded over a region."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from robustkit.certify.bounds import bound, unit
from robustkit.certify.branching import settle
from robustkit.certify.graph import Graph
from robustkit.certify.region import Region
from robustkit.certify.slopes import ascend, of_inner_layers


@dataclass(frozen=True)
class Effort:
    """How hard bounds are worked on: ascent steps, cases that a sample may be split into, ascent steps of a case."""

    steps: int = 20
    cases: int = 200
    case_steps: int = 8


class Margins:
    """Lower bounds of z_y - z_j, or of its negative, of weighted sums of members, over a region.

    Attributes
    ----------
    wanted : Tensor, (L - 1, B, L)
        What z_y - z_j is of the logits, for each rival j.
    """

    def __init__(self, graph: Graph, region: Region, y: Tensor, effort: Effort, slack: float) -> None:
        self.found = bound(graph, region, of_inner_layers(effort.steps // 2))
        self.effort, self.slack, self.members = effort, slack, len(graph.outputs)
        (classes,) = graph.nodes[graph.outputs[0]].shape
        own = torch.nn.functional.one_hot(y, classes).to(torch.float64)
        rivals = torch.stack([torch.cat([torch.arange(int(t)), torch.arange(int(t) + 1, classes)]) for t in y], 1)
        self.wanted = own[None] - torch.nn.functional.one_hot(rivals.to(y.device), classes).to(torch.float64)

    def lower(self, weights: Tensor, sign: float = 1.0) -> Tensor:
        """Return lower bounds (L - 1, B) of ``sign`` times the margins of a weighted sum of members."""
        return self.raised([sign * w * self.wanted if w else None for w in weights.tolist()])

    def raised(self, a: list[Tensor | None]) -> Tensor:
        """Return lower bounds (S, B) of functions, coefficients (S, B, L) of each member."""
        value = self.found.lower(unit(a, self.found.graph))
        rows = (value <= self.slack).any(0).nonzero()[:, 0]
        if len(rows):
            part = [None if one is None else one[:, rows] for one in a]
            need = torch.full_like(value[:, rows], self.slack)
            better = ascend(self.found.select(rows), unit(part, self.found.graph), self.effort.steps, need=need).value
            value[:, rows] = torch.maximum(value[:, rows], better)
        return torch.where(value.isfinite(), value, -torch.inf)  # what has overflowed bounds nothing

    def proven(self, weights: Tensor) -> Tensor:
        """Return which margins (L - 1, B) of a weighted sum of members are above zero, by cases where they are open."""
        known = self.lower(weights)
        proven = known > self.slack
        outputs = torch.stack(self.found.graph.forward(self.found.region.x))
        margin = (self.wanted * torch.einsum("m,mbl->bl", weights, outputs)).sum(-1)
        near = (~proven).any(0) & (known > -margin).all(
            0
        )  # a bound that lost twice the margin is not made good by cases
        rows = near.nonzero()[:, 0]
        if len(rows) and self.effort.cases:
            proven[:, rows] = settle(
                self.found.select(rows), self.wanted[:, rows], weights, known[:, rows], self.effort.cases,
                self.effort.case_steps, self.slack,
            )  # fmt: skip
        return proven
