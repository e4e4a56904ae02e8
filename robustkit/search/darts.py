"""DARTS, first order, on one cell."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from robustkit.base.parallel import seeded
from robustkit.models._genotype import Genotype
from robustkit.search import method
from robustkit.search._alternate import Drawn, Rates, Step, alternate
from robustkit.search._lab import Found, SearchLab, first_seed, found
from robustkit.search._relaxed import RelaxedNetwork
from robustkit.search._space import Space

START = 1e-3  # deviation of the first architecture parameters, as in DARTS


class Vector(nn.Module):
    """One vector of architecture parameters."""

    def __init__(self, size: int, generator: torch.Generator) -> None:
        super().__init__()
        self.vector = nn.Parameter(START * torch.randn(size, generator=generator))


@method("darts", source="arXiv:1806.09055, PC-DARTS arXiv:1907.05737, EdgeNES 3.1")
def darts(
    lab: SearchLab, *, epochs: int = 50, nodes: int = 6, batch_size: int = 64, lr: float = 0.025,
    architecture_lr: float = 0.02, partial: int = 4, width: int = 16, cells: int = 2,
) -> list[Found]:  # fmt: skip
    """One architecture by gradient descent, first order; members differ in their weights alone.

    Weights and architecture are trained in turns, each on a half of the training split, by Adam with a cosine (EdgeNES
    3.1, 4: rates .025 and .02, betas .5 and .9, 50 epochs, one cell; networks of two cells are trained from scratch).
    Deviations: batch size 64 and 16 channels, of which a quarter goes through the operations (PC-DARTS), are ours, the
    paper does not say them; weight decay and DARTS's second order are left out, as in the paper.
    """
    space = Space(nodes)
    rates = Rates(lr, architecture_lr)
    best = optimum(lab, "darts", space, epochs=epochs, batch_size=batch_size, rates=rates, partial=partial, width=width)
    return [found(f"darts-{at}", best, cells=cells, width=width) for at in range(lab.members)]


@dataclass(frozen=True)
class Optimum:
    """What a search found: the architecture, the vector that it stands for, and the network with its shared weights."""

    genotype: Genotype
    vector: Tensor
    network: RelaxedNetwork


def optimum(
    lab: SearchLab, name: str, space: Space, *, epochs: int, batch_size: int, rates: Rates, partial: int, width: int,
    start: int = 0,
) -> Genotype:  # fmt: skip
    """Search one architecture, as :func:`searched` does, and return it."""
    return searched(
        lab, name, space, epochs=epochs, batch_size=batch_size, rates=rates, partial=partial, width=width, start=start
    ).genotype


def searched(
    lab: SearchLab, name: str, space: Space, *, epochs: int, batch_size: int, rates: Rates, partial: int, width: int,
    start: int = 0,
) -> Optimum:  # fmt: skip
    """Search one architecture: solve EdgeNES eq. 1.1 by turns, first order.

    Parameters
    ----------
    start : int
        Of several searches, which: weights and architecture parameters begin differently.
    """
    network, vector = begin(lab, space, partial, width, start)

    def draw(_: Step) -> Drawn:
        return Drawn(space.softmax(vector.vector))

    alternate(lab, name, network, vector, draw, epochs=epochs, batch_size=batch_size, rates=rates)
    return Optimum(space.discretise(vector.vector), vector.vector.detach(), network)


def begin(lab: SearchLab, space: Space, partial: int, width: int, start: int = 0) -> tuple[RelaxedNetwork, Vector]:
    """Return an untrained network and a vector; both depend on the seed and ``start`` alone."""
    with seeded(seed := first_seed(lab.seed, start)):
        space.check(lab.shape)
        network = RelaxedNetwork(space, lab.shape[0], lab.classes, width, partial)
        return network, Vector(space.size, torch.Generator().manual_seed(seed))
