"""A discrete architecture of the cell space as a small readable JSON. Never imports torch.

The space (EdgeNES 1.1, 1.3, 3.1, after DARTS and PC-DARTS): one cell is a graph of ``nodes`` nodes, six in the paper.
Nodes 0 and 1 are the cell's inputs: what came before the last reduction, and what came after it (DARTS: the outputs of
the cell before the last, and of the last). The last node is its output, the concatenation of those between. Each node
between keeps one parent, an earlier node, and one operation, so that an architecture has ``nodes - 3`` edges: the
paper's Lambda, three for six nodes, which is how far its lambda goes.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from robustkit.base.errors import UserError, unknown

FORMAT, SPACE = "robustkit-genotype-1", "darts-cell"
OPERATIONS = (
    "max_pool_3x3", "avg_pool_3x3", "skip_connect", "sep_conv_3x3", "sep_conv_5x5", "dil_conv_3x3", "dil_conv_5x5",
)  # fmt: skip
INPUTS, NODES, MOST_NODES = 2, 6, 16  # inputs of a cell, nodes in the paper, and the most that make sense
Edge = tuple[int, int]


def edges(nodes: int) -> tuple[Edge, ...]:
    """Return every candidate edge (parent, node) of a cell of that many nodes, by node and then by parent."""
    return tuple((parent, node) for node in range(INPUTS, nodes - 1) for parent in range(node))


def architectures(nodes: int) -> int:
    """Return how many discrete architectures there are: 8,232 of six nodes."""
    return math.prod(node * len(OPERATIONS) for node in range(INPUTS, nodes - 1))


@dataclass(frozen=True)
class Genotype:
    """A discrete cell: of each node between inputs and output its parent and the operation on that edge.

    Attributes
    ----------
    parents : tuple of int
        Of the nodes 2, 3, ...: an earlier node.
    operations : tuple of str
        Of the same nodes, out of ``OPERATIONS``.
    """

    parents: tuple[int, ...]
    operations: tuple[str, ...]

    def __post_init__(self) -> None:
        if not self.parents or len(self.parents) != len(self.operations):
            raise UserError(
                f"genotype has {len(self.parents)} parents and {len(self.operations)} operations; "
                "it needs one of each for every node between inputs and output."
            )
        if self.nodes > MOST_NODES:
            raise UserError(f"genotype has {self.nodes} nodes; at most {MOST_NODES} are built.")
        for node, (parent, operation) in enumerate(zip(self.parents, self.operations, strict=True), INPUTS):
            if operation not in OPERATIONS:
                raise unknown("operation", operation, OPERATIONS)
            if not 0 <= parent < node:
                raise UserError(
                    f"node {node} of the genotype has parent {parent}; it must be a node from 0 to {node - 1}."
                )

    @property
    def nodes(self) -> int:
        """Nodes of the cell, inputs and output among them."""
        return len(self.parents) + INPUTS + 1

    @property
    def chosen(self) -> tuple[tuple[int, int, str], ...]:
        """Every edge that is kept: (parent, node, operation)."""
        return tuple((p, n, o) for n, (p, o) in enumerate(zip(self.parents, self.operations, strict=True), INPUTS))

    def shared(self, other: Genotype) -> int:
        """Return how many edges two architectures share: of how many nodes parent and operation are equal."""
        return len(set(self.chosen) & set(other.chosen))

    def to_json(self) -> dict[str, Any]:
        """Return it as plain JSON."""
        rows = [{"node": node, "from": parent, "operation": operation} for parent, node, operation in self.chosen]
        return {"format": FORMAT, "space": SPACE, "nodes": self.nodes, "edges": rows}

    def __str__(self) -> str:
        return ", ".join(f"{node}<-{parent} {operation}" for parent, node, operation in self.chosen)


PLAIN = Genotype((1, 2, 3), ("sep_conv_3x3",) * 3)  # nobody's search: one convolution after the other


def _whole(value: Any) -> int:
    """Return a number of a node; half a node is no node, and rounding it would build another architecture."""
    if type(value) is not int:
        raise ValueError(f"{value!r} is not a whole number")
    return value


def from_json(value: Any, where: str = "the genotype") -> Genotype:
    """Read what :meth:`Genotype.to_json` gives; a :class:`UserError` says in one sentence what is wrong with it."""
    if not isinstance(value, Mapping) or not str(value.get("format", "")).startswith("robustkit-genotype"):
        raise UserError(
            f'{where} is no genotype; a JSON with "format": "{FORMAT}" is expected, as `robustkit search` writes it.'
        )
    if value["format"] != FORMAT:
        raise UserError(f"{where} has format '{value['format']}'; this robustkit reads '{FORMAT}'.")
    if value.get("space") != SPACE:
        raise UserError(
            f"{where} is of the space '{value.get('space')}'; only architectures of '{SPACE}' can be built."
        )
    try:
        rows = {_whole(row["node"]): (_whole(row["from"]), str(row["operation"])) for row in value["edges"]}
        nodes, count = _whole(value["nodes"]), len(value["edges"])
    except (KeyError, TypeError, ValueError) as error:
        raise UserError(
            f"{where} lacks a node, a parent or an operation of an edge ({error!r}); write it again."
        ) from None
    inner = range(INPUTS, min(nodes, MOST_NODES + 1) - 1)
    if not rows or sorted(rows) != list(inner) or count != len(rows):
        raise UserError(
            f"{where} of {nodes} nodes has edges into {', '.join(map(str, sorted(rows))) or 'none'}; it must have one "
            f"into each of {', '.join(map(str, inner)) or 'at least one node'}."
        )
    parents, operations = zip(*(rows[node] for node in inner), strict=True)
    return Genotype(parents, operations)


def read(path: str | Path) -> tuple[Genotype, dict[str, Any]]:
    """Read a genotype file: the cell, and what its ``network`` says of the network around it (cells, width).

    Raises
    ------
    UserError
        If there is no such file, it is no JSON, or no architecture of this space.
    """
    try:
        value = json.loads(Path(path).read_text("utf-8"))
    except OSError as error:
        raise UserError(
            f"genotype '{path}' cannot be read ({error.strerror}); give a file that `robustkit search` wrote."
        ) from None
    except ValueError as error:
        raise UserError(f"genotype '{path}' is no JSON ({error}); give a file that `robustkit search` wrote.") from None
    found = from_json(value, f"genotype '{path}'")
    network = value.get("network", {})
    if (
        not isinstance(network, Mapping)
        or not set(network) <= {"cells", "width"}
        or not all(type(v) is int and v >= 1 for v in network.values())
    ):
        raise UserError(f"genotype '{path}' has the network {network}; it may say whole numbers of cells and of width.")
    return found, dict(network)
