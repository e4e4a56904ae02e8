"""A network as a graph of operations that have bounds, in float64."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from robustkit.certify.operations import Operation, Shape


@dataclass(frozen=True)
class Node:
    """One operation, the nodes that it reads, and the shape of its output for one sample; the input has none."""

    operation: Operation | None
    inputs: tuple[int, ...]
    shape: Shape


@dataclass(frozen=True)
class Graph:
    """Nodes in the order in which they are computed, the first of them the image; ``outputs`` are the logits.

    An ensemble is one graph with an output for each member, all on the same image.
    """

    nodes: tuple[Node, ...]
    outputs: tuple[int, ...]

    @property
    def relaxed(self) -> list[int]:
        """Which nodes are not affine."""
        return [at for at, node in enumerate(self.nodes) if node.operation is not None and node.operation.relaxed]

    def to(self, dtype: torch.dtype) -> Graph:
        """Return the graph with weights of a dtype."""
        return replace(
            self,
            nodes=tuple(n if n.operation is None else replace(n, operation=n.operation.to(dtype)) for n in self.nodes),
        )

    def forward(self, x: Tensor) -> list[Tensor]:
        """Return the outputs, (B, L) each, of images (B, C, H, W)."""
        values = self.values(x)
        return [values[at] for at in self.outputs]

    def values(self, x: Tensor) -> list[Tensor]:
        """Return what every node is of images (B, C, H, W), (B, *shape) each."""
        values = [x]
        for node in self.nodes[1:]:
            assert node.operation is not None
            values.append(node.operation.forward(*(values[at] for at in node.inputs)))
        return values

    def behind(self, nodes: Iterable[int]) -> set[int]:
        """Return the nodes that some are computed from, and those themselves."""
        found, stack = set[int](), list(nodes)
        while stack:
            at = stack.pop()
            if at not in found:
                found.add(at)
                stack += self.nodes[at].inputs
        return found

    def only(self, member: int) -> Graph:
        """Return the graph of one member."""
        needed = self.behind([self.outputs[member]]) | {0}
        place = {old: new for new, old in enumerate(sorted(needed))}
        nodes = (
            replace(self.nodes[at], inputs=tuple(place[i] for i in self.nodes[at].inputs)) for at in sorted(needed)
        )
        return Graph(tuple(nodes), (place[self.outputs[member]],))


def joined(graphs: Sequence[Graph]) -> Graph:
    """Return one graph of several networks on the same image."""
    nodes, outputs = [graphs[0].nodes[0]], []
    for graph in graphs:
        shift = len(nodes) - 1
        moved = (replace(n, inputs=tuple(i and i + shift for i in n.inputs)) for n in graph.nodes[1:])
        nodes += moved
        outputs += [at + shift for at in graph.outputs]
    return Graph(tuple(nodes), tuple(outputs))
