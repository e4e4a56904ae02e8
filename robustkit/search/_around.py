"""Architectures around an optimum: what a step of the hypernetwork's training draws, and what is sampled from it."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from robustkit.models._genotype import Genotype
from robustkit.search._alternate import Drawn, Step
from robustkit.search._hypernetwork import Hypernetwork, shared_edges, softened
from robustkit.search._space import Space

SHARP = 1e-4  # the temperature of a discrete draw: the largest of parameters + Gumbel noise
ATTEMPTS = 20  # draws at one lambda until a candidate is new


@dataclass(frozen=True)
class Ramp:
    """A setting that goes linearly from its first to its last value over the epochs (EdgeNES 4)."""

    first: float
    last: float

    def at(self, progress: float) -> float:
        """Return the value at e_current / e_total."""
        return self.first + (self.last - self.first) * progress


WEIGHT, TEMPERATURE = Ramp(0.3, 3.0), Ramp(1.0, 0.05)  # c and t of section 4


@dataclass(frozen=True)
class Dial:
    """How the regulariser of eq. 2.3 is trained.

    Attributes
    ----------
    weight, temperature : Ramp
        c and t of section 4.
    margin : float
        Training lambdas are uniform on [-margin, Lambda + margin]; 0.2 in the paper.
    draws : int
        Lambdas and architectures that the regulariser's mean is taken over at each step. The network is computed for
        the first of them, so that the others cost no pass. The paper's plain form has one.
    tau : float
        Of the softened optimum.
    """

    weight: Ramp = WEIGHT
    temperature: Ramp = TEMPERATURE
    margin: float = 0.2
    draws: int = 32
    tau: float = 0.99


class Around:
    """A hypernetwork around an optimum: a callable that draws a training step's architecture, and a sampler."""

    def __init__(self, space: Space, optimum: Genotype, hypernetwork: Hypernetwork, dial: Dial) -> None:
        self.space, self.optimum, self.hypernetwork, self.dial = space, optimum, hypernetwork, dial
        self.target = softened(space, optimum, dial.tau)

    def __call__(self, step: Step) -> Drawn:
        """Draw an architecture; the penalty is c (lambda - S)^2, over draws where the hypernetwork is trained."""
        dial, device = self.dial, self.hypernetwork.vectors.device
        draws = dial.draws if step.architecture_step else 1
        lam = torch.rand(draws, generator=step.generator) * (self.space.length + 2 * dial.margin) - dial.margin
        lam = lam.to(device)
        temperature, weight = dial.temperature.at(step.progress), dial.weight.at(step.progress)
        mixtures = self.space.gumbel(self.hypernetwork(lam), temperature, step.generator)
        gap = (lam - shared_edges(mixtures, self.target)).square().mean()
        facts: dict[str, Tensor | float] = {
            "lambda": lam[0], "shared_edges_error": gap.sqrt(), "temperature": temperature, "c": weight,
        }  # fmt: skip
        return Drawn(mixtures[0], weight * gap, facts)

    @torch.no_grad()
    def sample(self, lam: float, generator: torch.Generator) -> Genotype:
        """Draw one discrete architecture at a lambda in [0, Lambda]."""
        vector = self.hypernetwork(torch.tensor(lam, device=self.hypernetwork.vectors.device))
        return self.space.kept(self.space.gumbel(vector, SHARP, generator))

    @torch.no_grad()
    def sampled(self, lam: float, count: int, generator: torch.Generator) -> Tensor:
        """Return how many edges of each of ``count`` draws at a lambda are the optimum's, (count,)."""
        device = self.hypernetwork.vectors.device
        vectors = self.hypernetwork(torch.full((count,), lam, device=device))
        mixtures = self.space.gumbel(vectors, SHARP, generator)
        return shared_edges(mixtures, self.space.one_hot(self.optimum)).round()

    def candidates(self, lams: list[float], generator: torch.Generator) -> list[Genotype]:
        """Draw an architecture at each lambda, different ones where it gives different ones."""
        found: list[Genotype] = []
        for lam in lams:
            for _ in range(ATTEMPTS):
                drawn = self.sample(lam, generator)
                if drawn not in found:
                    break
            found.append(drawn)
        return found
