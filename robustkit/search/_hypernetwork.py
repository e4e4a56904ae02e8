"""The hypernetwork of EdgeNES: from a number of edges shared with an optimum to architecture parameters."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn
from torch.nn import functional

from robustkit.models._genotype import Genotype
from robustkit.search._space import Mixture, Space

NOISE = 1e-2  # deviation of the pivots' first vectors from where they begin
NARROWEST = 1e-2  # of the widths of two neighbouring intervals, before they are scaled: none closes altogether


class Hypernetwork(nn.Module):
    """A piecewise-linear map from lambda to a vector of architecture parameters (EdgeNES eq. 2.2, mended).

    a(lambda) = (1 - t) a_k + t a_{k+1},  t = (lambda - r_k) / (r_{k+1} - r_k),  for lambda in [r_k, r_{k+1}].

    The paper prints the two weights the other way round; that map is a_{k+1} where the interval begins and a_k where it
    ends, so that it jumps at every pivot. The vectors a_k and the inner pivots are trained; r_0 = 0 and r_K = Lambda
    stand still (3.1). The inner ones are sorted by construction: the intervals' widths are the softplus of what is
    trained, scaled to sum to Lambda. Beyond [0, Lambda] lambda counts as the nearest end, so that a margin of training
    lambdas trains the vectors of the ends by themselves.

    Parameters
    ----------
    size : int
        Numbers of a vector of architecture parameters.
    length : int
        Lambda: edges of an architecture.
    pivots : int
        K + 1, the ends among them; five in the paper. At least two.
    start : Tensor or None
        Where all vectors begin, (size,), but for a little noise; zero where none is given.
    """

    def __init__(
        self, size: int, length: int, pivots: int = 5, *, start: Tensor | None = None, generator: torch.Generator
    ) -> None:
        super().__init__()
        self.length = length
        noise = NOISE * torch.randn(pivots, size, generator=generator)
        self.vectors = nn.Parameter(noise if start is None else noise + start.detach().cpu())
        self.widths = nn.Parameter(torch.zeros(pivots - 1))

    @property
    def pivots(self) -> Tensor:
        """Return r_0 = 0 < r_1 < ... < r_K = Lambda, (K + 1,)."""
        widths = functional.softplus(self.widths) + NARROWEST
        ends = widths.cumsum(0)
        inner = self.length * ends[:-1] / ends[-1]
        return torch.cat([inner.new_zeros(1), inner, inner.new_full((1,), self.length)])

    def forward(self, lam: Tensor) -> Tensor:
        """Map lambda (...) to architecture parameters (..., size)."""
        pivots = self.pivots
        lam = lam.to(pivots).clamp(0, self.length)
        at = torch.searchsorted(pivots.detach(), lam, right=True).clamp(1, len(pivots) - 1)
        t = ((lam - pivots[at - 1]) / (pivots[at] - pivots[at - 1]))[..., None]
        return (1 - t) * self.vectors[at - 1] + t * self.vectors[at]


def softened(space: Space, genotype: Genotype, tau: float) -> Tensor:
    """Return alpha* (E, O): of each node ``tau`` on the pair of parent and operation that is kept, the rest shared out.

    Its inner product with a mixture's ``joint`` is the smoothed number of shared edges, from nearly none to tau Lambda.
    An edge is the pair: the paper's vectors hold operations (alpha) and parents (beta) side by side,
    but their plain inner product would count operations on edges that no architecture keeps, and every node twice; it
    could not be Lambda where all edges are shared, which lambda needs. The product over pairs can, and on discrete
    architectures it is what :meth:`robustkit.models._genotype.Genotype.shared` counts.
    """
    target = space.one_hot(genotype)
    for node in space.inner:
        rows = target[space.into(node)]
        others = (1 - tau) / (rows.numel() - 1)
        target[space.into(node)] = rows * tau + (1 - rows) * others
    return target


def shared_edges(mixture: Mixture, target: Tensor) -> Tensor:
    """Return <alpha*, GS(alpha)> (...), the smoothed number of edges that mixtures share with an optimum (E, O)."""
    return (mixture.joint * target.to(mixture.joint)).sum((-2, -1))


def expected_trained_edges(members: int, length: int) -> float:
    """Return N (Lambda + 1)^2 / (4 Lambda), EdgeNES eq. 2.4 (Theorem 1).

    How many edges of N members a step trains on average if the step's architecture shares mu edges with the optimum and
    a member nu, both independent and uniform on 1, ..., Lambda, and which ones is chance: mu nu / Lambda of a member's.
    An edge counts for every member that has it. With lambda uniform on 0, ..., Lambda or on [0, Lambda], as the paper
    trains (3.1), the same derivation gives N Lambda / 4 instead.
    """
    return members * (length + 1) ** 2 / (4 * length)


def relative_speed(members: int, length: int) -> float:
    """Return N (Lambda + 1)^2 / (4 Lambda^2), EdgeNES eq. 2.5: that number over Lambda, the edges of one DARTS run."""
    return expected_trained_edges(members, length) / length


def strata(count: int, length: int, generator: torch.Generator) -> list[float]:
    """Draw so many lambdas: each uniform in one of as many equal parts of [0, Lambda], ascending."""
    within = torch.rand(count, generator=generator, dtype=torch.float64)
    found: list[float] = (
        ((torch.arange(count) + within) * (length / count)).clamp(max=math.nextafter(length, 0)).tolist()
    )
    return found
