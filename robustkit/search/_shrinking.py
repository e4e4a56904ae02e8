"""Progressive shrinking: a network learns, then more and more of its subnetworks, on shared weights."""

from __future__ import annotations

import math
import random
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor
from torch.nn import functional

from robustkit.base.errors import RunError
from robustkit.models._elastic import Lists
from robustkit.search._elastic import LISTING_1, Stage, drawn, largest, smallest
from robustkit.search._sharing import Supernet
from robustkit.training.augment import augment
from robustkit.training.samples import Samples

if TYPE_CHECKING:
    from robustkit.search._lab import Checkpoint, SearchLab

WHOLE = Stage(0, 1, 0.0)  # nothing shrinks yet
BETWEEN_SAVES = 2.0  # seconds
Row = dict[str, float]


@dataclass(frozen=True)
class Recipe:
    """How a supernet is trained.

    Attributes
    ----------
    warm, shrinking : int
        Epochs of the whole network alone, and of the stages that follow.
    lr, shrinking_lr : float
        Adam's at the start of the first part and of each stage; a cosine ends at 0.
    subnetworks : int
        Drawn at each step, beside the largest and the smallest (the sandwich).
    """

    warm: int
    shrinking: int
    lr: float
    shrinking_lr: float
    batch_size: int
    weight_decay: float
    shift: float
    subnetworks: int

    def epochs(self, stages: Sequence[Stage] = LISTING_1) -> list[tuple[Stage, int, int]]:
        """Return of each epoch its stage, how many epochs of it were before, and how many it has."""
        bounds, reached = [0], 0.0
        for stage in stages:
            reached += stage.share
            bounds.append(round(self.shrinking * reached))
        parts = [
            (WHOLE, self.warm),
            *zip(stages, (b - a for a, b in zip(bounds, bounds[1:], strict=False)), strict=True),
        ]
        return [(stage, at, count) for stage, count in parts for at in range(count)]


class Shrinking:
    """A supernet in training: :meth:`run` trains what is left of it, and saves after its epochs.

    At each step the largest network that the stage allows is trained on the labels, the smallest and a few drawn ones
    on its answers: the sandwich rule and in-place distillation of Yu and Huang 2019 (arXiv:1903.05134).
    """

    def __init__(self, lab: SearchLab, net: Supernet, recipe: Recipe) -> None:
        self.lab, self.net, self.recipe = lab, net, recipe
        self.samples = Samples.of(lab.data.split("train"), lab.device)
        self.optimiser = torch.optim.Adam(net.parameters(), recipe.lr, weight_decay=recipe.weight_decay, fused=True)
        self.history: list[Row] = []

    def run(self, kept: Checkpoint) -> list[Row]:
        """Train to the last epoch, from where ``kept`` left off; return a row of facts for each epoch."""
        self._resume(kept)
        plan, steps = self.recipe.epochs(), math.ceil(len(self.samples.y) / self.recipe.batch_size)
        saved = time.perf_counter()
        with self.lab.phase("supernet"), self.lab.reporter.task("training the supernet", len(plan) * steps) as advance:
            advance(len(self.history) * steps)
            while len(self.history) < len(plan):
                stage, at, count = plan[len(self.history)]
                note = f"epoch {len(self.history) + 1} of {len(plan)}, {_called(stage)}, "
                if stage.reorganise and not at:
                    self.net.reorganise()
                    self._forget()
                means = self._epoch(stage, at, count, lambda row, note=note: advance(1, note + _shown(row)))
                self.history.append(means)
                last = len(self.history) == len(plan)
                if last or time.perf_counter() - saved > BETWEEN_SAVES:
                    self._save(kept)
                    saved = time.perf_counter()
        return self.history

    def _epoch(self, stage: Stage, at: int, count: int, heard: Any) -> Row:
        """Train on every sample once; random numbers depend on seed and epoch alone, so that it can be repeated."""
        number, recipe = len(self.history), self.recipe
        generator = self.lab.generator(1, number)
        numbers = random.Random(int(torch.randint(2**62, (), generator=generator)))
        order = torch.randperm(len(self.samples.y), generator=generator)
        chunks = [rows for rows in torch.split(order, recipe.batch_size) if len(rows) > 1]
        self.net.train()
        totals, samples = Row(), 0
        for index, rows in enumerate(chunks):
            first = recipe.lr if stage is WHOLE else recipe.shrinking_lr
            share = (at + index / len(chunks)) / count
            for group in self.optimiser.param_groups:
                group["lr"] = first * (1 + math.cos(math.pi * share)) / 2
            x, y = self.samples.batch(rows)
            x = augment(x, shift=recipe.shift, flip=self.lab.data.flip, generator=generator)
            losses = self._step(x, y, self._subnetworks(stage, numbers))
            for name, value in losses.items():
                totals[name] = totals.get(name, 0.0) + value * len(rows)
            samples += len(rows)
            heard(losses)
        return {"removed": float(stage.removed), "narrower": float(stage.narrower)} | {
            name: value / samples for name, value in totals.items()
        }

    def _subnetworks(self, stage: Stage, numbers: random.Random) -> dict[str, Lists]:
        if stage is WHOLE:
            return {}
        found = {"smallest": smallest(self.net.space, stage)}
        return found | {f"drawn {i + 1}": drawn(self.net.space, stage, numbers) for i in range(self.recipe.subnetworks)}

    def _step(self, x: Tensor, y: Tensor, others: dict[str, Lists]) -> Row:
        self.optimiser.zero_grad(set_to_none=True)
        logits = self.net(x, largest(self.net.space))
        loss = functional.cross_entropy(logits, y)
        loss.backward()  # type: ignore[no-untyped-call]
        losses, answers = {"largest": float(loss.detach())}, logits.detach().softmax(1)
        for name, lists in others.items():
            loss = functional.cross_entropy(self.net(x, lists), answers)
            loss.backward()  # type: ignore[no-untyped-call]
            losses[name] = float(loss.detach())
        if not all(map(math.isfinite, losses.values())):
            raise RunError(
                f"training the supernet broke in epoch {len(self.history) + 1}: a loss is not finite ({losses}); "
                f"try --set supernet.lr={self.recipe.lr / 10:g}."
            )
        self.optimiser.step()
        self.lab.count("supernet", forward=len(x) * len(losses), backward=len(x) * len(losses))
        drawn_losses = [value for name, value in losses.items() if name.startswith("drawn")]
        kept = {name: value for name, value in losses.items() if not name.startswith("drawn")}
        return kept | ({"drawn": sum(drawn_losses) / len(drawn_losses)} if drawn_losses else {})

    def _forget(self) -> None:
        """Begin the optimiser anew: its means are of channels in another order."""
        self.optimiser.state.clear()

    def _save(self, kept: Checkpoint) -> None:
        kept.save(
            {
                "weights": self.net.state_dict(),
                "optimiser": self.optimiser.state_dict(),
                "history": self.history,
            }
        )

    def _resume(self, kept: Checkpoint) -> None:
        state = kept.load()
        if state is not None:
            self.net.load_state_dict(state["weights"])
            self.optimiser.load_state_dict(state["optimiser"])
            self.history = state["history"]


def _called(stage: Stage) -> str:
    if stage is WHOLE:
        return "whole network"
    return f"{stage.removed} fewer block{'s'[: stage.removed > 1]}, {stage.narrower} width{'s'[: stage.narrower > 1]}"


def _shown(row: Row) -> str:
    return ", ".join(f"{name} {value:.3f}" for name, value in row.items())
