"""The relaxed space: vectors of architecture parameters, what they mix, and the architecture they stand for."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor

from robustkit.base.errors import UserError
from robustkit.models._genotype import INPUTS, MOST_NODES, OPERATIONS, Edge, Genotype, architectures, edges

SMALLEST = 8  # pixels of a side: two reductions leave two


@dataclass(frozen=True)
class Mixture:
    """How much of every operation on every edge a relaxed cell computes.

    Attributes
    ----------
    alpha : Tensor
        (..., E, O), of each edge a distribution over operations.
    beta : Tensor
        (..., E), of each node a distribution over the edges into it.
    """

    alpha: Tensor
    beta: Tensor

    @property
    def joint(self) -> Tensor:
        """Return (..., E, O): of each node a distribution over (parent, operation)."""
        return self.alpha * self.beta[..., None]

    def __getitem__(self, at: int) -> Mixture:
        """Return one of several mixtures."""
        return Mixture(self.alpha[at], self.beta[at])

    def detach(self) -> Mixture:
        """Return it without its history."""
        return Mixture(self.alpha.detach(), self.beta.detach())


@dataclass(frozen=True)
class Space:
    """Cells of ``nodes`` nodes: two inputs, an output and those between (:mod:`robustkit.models._genotype`).

    A vector of architecture parameters (``size``,) is alpha (E, O), row by row, then beta (E,). Edges are in the order
    of :func:`robustkit.models._genotype.edges`: by node, then by parent.
    """

    nodes: int = 6

    def __post_init__(self) -> None:
        if not INPUTS + 2 <= self.nodes <= MOST_NODES:
            raise UserError(f"nodes {self.nodes} is out of range; a cell has {INPUTS + 2} to {MOST_NODES} of them.")

    @cached_property
    def edges(self) -> tuple[Edge, ...]:
        """Every candidate edge, (parent, node)."""
        return edges(self.nodes)

    @property
    def operations(self) -> tuple[str, ...]:
        """Names of the operations, O of them."""
        return OPERATIONS

    @property
    def inner(self) -> range:
        """The nodes between inputs and output."""
        return range(INPUTS, self.nodes - 1)

    @property
    def length(self) -> int:
        """Lambda: the edges of an architecture, one into each inner node."""
        return len(self.inner)

    @property
    def size(self) -> int:
        """Numbers of a vector of architecture parameters: E x O + E."""
        return len(self.edges) * (len(OPERATIONS) + 1)

    def into(self, node: int) -> slice:
        """Return which of ``edges`` lead into a node: they lie side by side."""
        start = sum(range(INPUTS, node))
        return slice(start, start + node)

    def split(self, vector: Tensor) -> tuple[Tensor, Tensor]:
        """Return alpha (..., E, O) and beta (..., E) of a vector (..., size)."""
        count = len(self.edges) * len(OPERATIONS)
        alpha = vector[..., :count].reshape(*vector.shape[:-1], len(self.edges), len(OPERATIONS))
        return alpha, vector[..., count:]

    def softmax(self, vector: Tensor) -> Mixture:
        """Return the mixture of DARTS and PC-DARTS: softmax over an edge's operations, and over a node's edges."""
        alpha, beta = self.split(vector)
        return Mixture(alpha.softmax(-1), self._by_node(beta))

    def gumbel(self, vector: Tensor, temperature: float, generator: torch.Generator) -> Mixture:
        """Return a relaxed sample: softmax((parameters + Gumbel noise) / temperature) (Jang et al. 2017).

        The noise comes from a CPU generator, so that it is the same on every device.
        """
        draws = torch.empty(vector.shape, dtype=torch.float64).exponential_(generator=generator)
        noisy = (vector - draws.log().to(vector)) / temperature
        return self.softmax(noisy)

    def _by_node(self, beta: Tensor) -> Tensor:
        return torch.cat([beta[..., self.into(node)].softmax(-1) for node in self.inner], -1)

    def discretise(self, vector: Tensor) -> Genotype:
        """Return the architecture that a vector stands for: of each node the pair of largest beta x alpha.

        One parent and one operation a node; of equal ones the first.
        """
        return self.kept(self.softmax(vector))

    def kept(self, mixture: Mixture) -> Genotype:
        """Return the architecture that keeps of each node of a mixture the pair of largest beta x alpha."""
        joint = mixture.joint.detach().cpu()
        parents, operations = [], []
        for node in self.inner:
            best = int(joint[self.into(node)].flatten().argmax())
            parents.append(best // len(OPERATIONS))
            operations.append(OPERATIONS[best % len(OPERATIONS)])
        return Genotype(tuple(parents), tuple(operations))

    def one_hot(self, genotype: Genotype) -> Tensor:
        """Return (E, O) with a one for each edge of an architecture; its product with ``joint`` counts shared edges."""
        if genotype.nodes != self.nodes:
            raise UserError(
                f"the genotype has {genotype.nodes} nodes and the space {self.nodes}; name a space of as many."
            )
        found = torch.zeros(len(self.edges), len(OPERATIONS))
        for parent, node, operation in genotype.chosen:
            found[self.into(node).start + parent, OPERATIONS.index(operation)] = 1
        return found

    def check(self, shape: tuple[int, int, int]) -> None:
        """Raise a :class:`UserError` if images of a shape (C, H, W) are too small for the two reductions."""
        if min(shape[1:]) < SMALLEST:
            raise UserError(
                f"images of {shape[1]}x{shape[2]} pixels are too small for the two reductions of a searched network; "
                f"they need {SMALLEST}x{SMALLEST} or more."
            )

    def check_count(self, count: float, label: str) -> None:
        """Raise a :class:`UserError` if a number of edges is not in [0, Lambda]."""
        if not 0 <= count <= self.length:
            raise UserError(
                f"{label} {count} is out of range; an architecture of {self.nodes} nodes has {self.length} edges, so "
                f"that it must be in [0, {self.length}]."
            )

    def deviation(self, genotype: Genotype, count: int, generator: torch.Generator) -> Genotype:
        """Return an architecture that shares all but ``count`` edges: as many nodes, drawn, get another pair.

        A pair is a parent and an operation; all but the node's own have the same probability.
        """
        self.check_count(count, "replaced edges")
        self.one_hot(genotype)
        pairs = list(zip(genotype.parents, genotype.operations, strict=True))
        for at in torch.randperm(self.length, generator=generator)[:count].tolist():
            parent, operation = pairs[at]
            own = parent * len(OPERATIONS) + OPERATIONS.index(operation)
            drawn = int(torch.randint(self.inner[at] * len(OPERATIONS) - 1, (), generator=generator))
            drawn += drawn >= own
            pairs[at] = drawn // len(OPERATIONS), OPERATIONS[drawn % len(OPERATIONS)]
        return Genotype(tuple(p for p, _ in pairs), tuple(o for _, o in pairs))

    def deviations(self, count: int | None) -> int:
        """Return how many architectures differ from one in exactly ``count`` edges; None: how many there are at all."""
        if count is None:
            return architectures(self.nodes)
        found = [1] + [0] * count  # of the nodes so far, by how many of them differ
        for node in self.inner:
            others = node * len(OPERATIONS) - 1
            found = [now + others * (found[at - 1] if at else 0) for at, now in enumerate(found)]
        return found[count]

    def distinct(self, count: int, draw: Callable[[], Genotype]) -> list[Genotype]:
        """Return ``count`` architectures that differ, drawn one after the other; fewer where there are no more."""
        drawn: dict[Genotype, None] = {}
        for _ in range(100 * count):
            drawn[draw()] = None
            if len(drawn) >= min(count, architectures(self.nodes)):
                break
        return list(drawn)

    def random(self, generator: torch.Generator) -> Genotype:
        """Return an architecture out of all with the same probability."""

        def below(count: int) -> int:
            return int(torch.randint(count, (), generator=generator))

        pairs = [(below(node), OPERATIONS[below(len(OPERATIONS))]) for node in self.inner]
        return Genotype(tuple(p for p, _ in pairs), tuple(o for _, o in pairs))
