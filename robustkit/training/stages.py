"""Members that are trained one after another, and with what probability each is drawn once they are."""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from torch import nn
from torch.optim.lr_scheduler import LambdaLR, LRScheduler

from robustkit.base import chances
from robustkit.base.errors import UserError
from robustkit.defenses import Method
from robustkit.ensembles.ensemble import Ensemble
from robustkit.training import optim
from robustkit.training.samples import Samples
from robustkit.training.spec import TrainSpec


@dataclass(frozen=True)
class Stages:
    """Which member is trained in which epoch, each in an equal share; numbers of epochs begin at one."""

    members: int
    epochs: int

    @classmethod
    def of(cls, spec: TrainSpec, method: Method) -> Stages | None:
        """Return the stages of a training, None where members are trained together."""
        return cls(spec.members, spec.epochs) if method.facts.get("one_by_one") else None

    def member(self, epoch: int) -> int:
        """Return the index of the member that an epoch trains."""
        return (epoch - 1) * self.members // self.epochs

    def begin(self, ensemble: Ensemble, epoch: int) -> None:
        """Give a member whose first epoch this is the weights of the one before."""
        at = self.member(epoch)
        if at and self.member(epoch - 1) != at:
            ensemble.members[at].load_state_dict(ensemble.members[at - 1].state_dict())

    def so_far(self, ensemble: Ensemble, epoch: int) -> Ensemble:
        """Return the members up to the one that an epoch trains, drawn with equal probabilities."""
        return Ensemble(list(ensemble.members)[: self.member(epoch) + 1], chances.RANDOM)

    def schedule(self, spec: TrainSpec, on: torch.optim.Optimizer) -> LRScheduler:
        """Return the schedule of a training anew for each member, over its own epochs."""
        rates: list[float] = []
        every = [self.member(epoch) for epoch in range(1, self.epochs + 1)]
        for at in range(self.members):
            trial = torch.optim.SGD([nn.Parameter(torch.zeros(()))], spec.lr or 1.0)
            own = optim.schedule(replace(spec, epochs=every.count(at)), trial)
            for _ in range(every.count(at)):
                rates.append(trial.param_groups[0]["lr"] / (spec.lr or 1.0))
                trial.step()
                own.step()
        return LambdaLR(on, lambda epoch: rates[min(epoch, len(rates) - 1)])


def check_stages(spec: TrainSpec, method: Method) -> None:
    """Raise a :class:`UserError` where members are trained one after another in fewer epochs than there are."""
    if Stages.of(spec, method) and spec.epochs < spec.members:
        raise UserError(
            f"defense '{spec.defense.name}' trains its {spec.members} members one after another, which {spec.epochs} "
            f"epochs are too few for; use --epochs {spec.members} or more."
        )


def with_chances(ensemble: Ensemble, spec: TrainSpec, method: Method, samples: Samples) -> Ensemble:
    """Return a trained ensemble with the probabilities that its defence finds, where they are left to it."""
    if method.chances is None or spec.fusion != chances.RANDOM:
        return ensemble
    generator = torch.Generator().manual_seed(spec.seed)
    x, y = samples.batch(torch.randperm(len(samples), generator=generator)[: method.chances.keywords["images"]])
    found = method.chances(ensemble, x, y, generator=generator)
    return Ensemble(list(ensemble.members), f"{chances.RANDOM}:{','.join(f'{p:.12g}' for p in found)}").eval()
