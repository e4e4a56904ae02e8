"""First-order alternating optimisation of architecture and weights (DARTS), for whatever draws the architectures."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from robustkit.base.errors import RunError
from robustkit.base.options import at_least
from robustkit.search._lab import SearchLab
from robustkit.search._relaxed import RelaxedNetwork
from robustkit.search._space import Mixture
from robustkit.training.ranks import Ranks
from robustkit.training.samples import Samples
from robustkit.training.step import LOOK, Means, read

BETWEEN_SAVES = 2.0  # seconds: epochs shorter than this are not worth a file each
Row = dict[str, float]


@dataclass(frozen=True)
class Step:
    """Where a search is when an architecture is drawn.

    Attributes
    ----------
    progress : float
        Of the epochs, e_current / e_total in [0, 1).
    generator : torch.Generator
        On the CPU; depends on seed and epoch alone.
    architecture_step : bool
        Whether architecture parameters are moved in this step, not weights.
    """

    progress: float
    generator: torch.Generator
    architecture_step: bool


@dataclass(frozen=True)
class Drawn:
    """The mixture of a step, what is added to its loss, and facts for the progress line and the history."""

    mixture: Mixture
    penalty: Tensor | None = None
    facts: Mapping[str, Tensor | float] = field(default_factory=dict)


@dataclass(frozen=True)
class Rates:
    """Both optimisers are Adam, their rates fall to zero along a cosine (EdgeNES 3.1 and 4).

    Attributes
    ----------
    weights, architecture : float
        Learning rates at the beginning: .025 and .02 in the paper.
    betas : pair of float
        Of Adam, both stages: (.5, .9) in the paper.
    """

    weights: float = 0.025
    architecture: float = 0.02
    betas: tuple[float, float] = (0.5, 0.9)


class Alternation:
    """A search in progress, moved on epoch by epoch."""

    def __init__(
        self, lab: SearchLab, name: str, network: RelaxedNetwork, architecture: nn.Module,
        draw: Callable[[Step], Drawn], epochs: int, batch_size: int, rates: Rates,
    ) -> None:  # fmt: skip
        self.lab, self.name, self.draw, self.epochs, self.batch_size = lab, name, draw, epochs, batch_size
        # Small convolutions of few channels are fastest in this layout (docs/search.md).
        self.network = network.to(lab.device).to(memory_format=torch.channels_last)
        self.architecture = architecture.to(lab.device)
        groups = [(network, rates.weights), (architecture, rates.architecture)]
        self.optimisers = [torch.optim.Adam(part.parameters(), lr, betas=rates.betas) for part, lr in groups]
        self.schedules = [torch.optim.lr_scheduler.CosineAnnealingLR(o, epochs) for o in self.optimisers]
        self.history: list[Row] = []
        self.saved = time.perf_counter()

    @property
    def steps(self) -> int:
        """Steps of an epoch, each of both kinds."""
        return math.ceil(len(self.lab.weights.y) / self.batch_size)

    def epoch(self, advance: Callable[[int, str], None]) -> None:
        """Move on by one epoch: at each step first the architecture, then the weights."""
        number, started, means = len(self.history), time.perf_counter(), Means()
        generator = self.lab.generator(number, _stream(self.name))
        orders = [
            torch.randperm(len(half.y), generator=generator) for half in (self.lab.architectures, self.lab.weights)
        ]
        self.network.train()
        for at, chunks in enumerate(zip(*(torch.split(order, self.batch_size) for order in orders), strict=False)):
            if min(map(len, chunks)) < 2:  # batch norm cannot learn from one sample
                continue
            values: dict[str, Tensor] = {}
            for kind, rows in enumerate(chunks):
                values |= self._step(kind == 0, rows, Step(number / self.epochs, generator, kind == 0))
            means.add(values, len(chunks[1]))
            advance(1, self._line(number, values) if self.lab.device.type == "cpu" or at % LOOK == 0 else "")
        for schedule in self.schedules:
            schedule.step()
        row = means.read(Ranks())
        if broken := [name for name, value in row.items() if not math.isfinite(value)]:
            raise RunError(
                f"the search '{self.name}' broke in epoch {number + 1}: {broken[0]} is not finite; lower its learning "
                "rates with --set."
            )
        self.history.append({"epoch": number + 1.0, **row, "seconds": time.perf_counter() - started})

    def _step(self, of_architecture: bool, rows: Tensor, step: Step) -> dict[str, Tensor]:
        half: Samples = self.lab.architectures if of_architecture else self.lab.weights
        optimiser = self.optimisers[of_architecture]
        drawn = self.draw(step)
        x, y = half.batch(rows)
        x = x.contiguous(memory_format=torch.channels_last)
        logits = self.network(x, drawn.mixture if of_architecture else drawn.mixture.detach())
        entropy = functional.cross_entropy(logits, y)
        loss = entropy if drawn.penalty is None or not of_architecture else entropy + drawn.penalty
        moved = self.architecture if of_architecture else self.network
        parameters = list(moved.parameters())
        for parameter, gradient in zip(
            parameters, torch.autograd.grad(loss, parameters, allow_unused=True), strict=True
        ):
            parameter.grad = gradient
        optimiser.step()
        self.lab.count(self.name, forward=len(y), backward=len(y))
        if not of_architecture:
            return {"training_loss": entropy.detach()}
        right = (logits.argmax(1) == y).float().mean()
        facts = {name: torch.as_tensor(value).detach().to(y.device) for name, value in drawn.facts.items()}
        penalty = {} if drawn.penalty is None else {"penalty": drawn.penalty.detach()}
        return {"validation_loss": entropy.detach(), "validation_accuracy": right, **penalty, **facts}

    def _line(self, number: int, values: Mapping[str, Tensor]) -> str:
        shown = ", ".join(f"{name.replace('_', ' ')} {value:.3f}" for name, value in read(values, Ranks()).items())
        return f"epoch {number + 1} of {self.epochs}, {shown}"

    def save(self, force: bool) -> None:
        """Keep what the next epoch depends on; after short epochs only now and then."""
        if force or time.perf_counter() - self.saved >= BETWEEN_SAVES:
            parts = {name: part.state_dict() for name, part in self._parts().items()}
            self.lab.checkpoint(self.name).save({"history": self.history, **parts})
            self.saved = time.perf_counter()

    def resume(self) -> None:
        """Take up what :meth:`save` kept, if there is something."""
        if (state := self.lab.checkpoint(self.name).load()) is not None:
            for name, part in self._parts().items():
                part.load_state_dict(state[name])
            self.history = state["history"]

    def _parts(self) -> dict[str, Any]:
        names = ("weights", "architecture")
        return {
            "network": self.network, "architectures": self.architecture,
            **{f"optimiser_{n}": o for n, o in zip(names, self.optimisers, strict=True)},
            **{f"schedule_{n}": s for n, s in zip(names, self.schedules, strict=True)},
        }  # fmt: skip


def alternate(
    lab: SearchLab, name: str, network: RelaxedNetwork, architecture: nn.Module, draw: Callable[[Step], Drawn], *,
    epochs: int, batch_size: int = 64, rates: Rates | None = None,
) -> list[Row]:  # fmt: skip
    """Train the weights on one half of the training split and the architecture on the other, in turns.

    Parameters
    ----------
    name : str
        Of the phase: costs are counted under it, and a killed search goes on from its file.
    architecture : nn.Module
        Its parameters are what is learned of architectures.
    draw : callable
        The mixture of a step; called twice a step, for the architecture and for the weights.

    Returns
    -------
    list of dict
        A row of means for each epoch; ``network`` and ``architecture`` are as the last one left them.

    Raises
    ------
    UserError
        If a batch is one sample, of which batch norm learns nothing: no step would be done at all.
    """
    at_least(f"{lab.asked.get('method', name)}.batch_size", batch_size, 2)
    work = Alternation(lab, name, network, architecture, draw, epochs, batch_size, rates or Rates())
    work.resume()
    if 0 < len(work.history) < epochs:
        lab.reporter.say(f"  {name}: going on after epoch {len(work.history)} of {epochs}")
    with lab.phase(name), lab.reporter.task(f"search {name}", epochs * work.steps) as advance:
        advance(len(work.history) * work.steps)
        while len(work.history) < epochs:
            work.epoch(advance)
            work.save(force=len(work.history) == epochs)
    lab.histories[name] = work.history
    return work.history


def _stream(name: str) -> int:
    """Return a number of a name, the same in every process."""
    return int.from_bytes(name.encode()[-7:], "big")
