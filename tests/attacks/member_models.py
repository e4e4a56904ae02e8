"""What the tests of attacks on members share: small models with members, and what an attack leaves of them."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn

from robustkit import attacks
from robustkit.ensembles.ensemble import Ensemble

FUSIONS = ("mean-prob", "mean-logit", "median", "geometric-mean", "majority")


class Shown(Ensemble):
    """Members whose logits (M, B, L) are what they are told to be, whatever the images."""

    def __init__(self, logits: Tensor, fusion: str = "mean-prob") -> None:
        super().__init__([nn.Identity() for _ in logits], fusion)
        self.logits = logits

    def member_logits(self, x: Tensor) -> Tensor:
        return self.logits


class Counted(Ensemble):
    """Counts its passes."""

    passes = 0

    def member_logits(self, x: Tensor) -> Tensor:
        self.passes += 1
        return super().member_logits(x)


class Times(nn.Module):
    """A model whose logits are so many times as large."""

    def __init__(self, model: nn.Module, factor: float) -> None:
        super().__init__()
        self.model, self.factor = model, factor

    def forward(self, x: Tensor) -> Tensor:
        return self.factor * self.model(x)


def logits(members: int = 3, n: int = 12, classes: int = 5, size: float = 3.0) -> Tensor:
    return size * torch.randn((members, n, classes), generator=torch.Generator().manual_seed(4), dtype=torch.float64)


def mixed(trained: Ensemble, lenets: Ensemble, fusion: str = "mean-prob") -> Ensemble:
    """Two perceptrons and a LeNet."""
    return Ensemble([*list(trained.members)[:2], lenets.members[0]], fusion).eval()


def standing(name: str, model: Callable[[Tensor], Tensor], data: Sequence[Tensor], **more: object) -> int:
    """How many samples an attack leaves, or, where it is targeted, does not bring to their target."""
    x, y = data
    made = attacks.get(name)(model, x, y, **{"generator": 0, **more})
    fooled = model(made).argmax(1) == y if more.get("targeted") else model(made).argmax(1) != y
    return int((~fooled).sum())
