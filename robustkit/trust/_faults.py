"""Planted faults: models and attacks that look robust and are not, each with the check that must catch it.

``robustkit bench --self-test`` evaluates them like any other model (:mod:`robustkit.pipeline.selftest`); a verdict that
misses one of them would miss the same mistake in a real evaluation.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from robustkit import attacks, corruptions
from robustkit.ensembles.ensemble import Ensemble
from robustkit.ensembles.fusion import crossmax

SCALE = 1e4
LEVELS = 8
NOISE = 0.1  # standard deviation, in pixel units
FLOOR = 1e-4  # below which the mean probability is clamped
WALK, STRIDE = 2, 0.075  # steps that purify an image, and their length in pixel units
IDLE: tuple[str, dict[str, Any]] = ("self-test-idle", {})


@dataclass(frozen=True)
class Fault:
    """One thing that is wrong, and what must be said of it.

    Attributes
    ----------
    caught_by : str
        Name of the check that must fail; empty for a model with nothing wrong, of which none may.
    plant : callable
        From a sound ensemble to the faulty one.
    attacks : tuple of (str, mapping)
        Names and parameters of what is run against it; of several, the worst case is judged.
    """

    name: str
    what: str
    caught_by: str
    plant: Callable[[Ensemble], Ensemble] = lambda ensemble: ensemble
    attacks: tuple[tuple[str, dict[str, Any]], ...] = (("pgd", {"steps": 100, "restarts": 2}),)


def faults() -> tuple[Fault, ...]:
    """Return every planted fault, in the order of ``docs/trust.md``."""
    return (
        Fault("logits-x-1e4", "logits times 10,000: cross-entropy saturates", "not-saturated", _members(Scaled)),
        Fault("quantised", "inputs rounded to 8 levels: no gradient", "gradients-available", _members(Quantised)),
        Fault("random-noise", "noise added to each input: random answers", "deterministic", _members(Noisy)),
        Fault("softmax-as-logits", "members end in a softmax", "logits-not-probabilities", _members(Softmaxed)),
        Fault("clamped-log", "log of the clamped mean probability", "logits-not-probabilities", _fused(clamped_log)),
        Fault("jpeg", "a JPEG round trip in front: no gradient", "gradients-available", _members(Jpeg)),
        Fault("max-fusion", "the surest member answers for all", "fusion-swap", _fused(largest)),
        Fault(
            "crossmax",
            "members and classes put on one scale, then the median",
            "holds-against-outsiders",
            _fused(crossmax),
        ),
        Fault("drawn-members", "one member answers, drawn at random", "drawn-members", _drawn),
        Fault(
            "purifies",
            "inputs are optimised before they are classified",
            "static-forward",
            _members(Purifying),
            (("pgd", {"steps": 50}),),
        ),  # fmt: skip
        Fault("two-steps", "PGD stopped after two steps", "iterations-suffice", attacks=(("pgd", {"steps": 2}),)),
        Fault("returns-x", "an attack that returns its input", "planted-vulnerability", attacks=(IDLE,)),
        Fault("leaves-the-ball", "an attack of twice the budget", "within-budget", attacks=(("self-test-twice", {}),)),
    )


class _Front(nn.Module):
    """A member with something in front of it or behind it."""

    def __init__(self, member: nn.Module) -> None:
        super().__init__()
        self.member = member


class Scaled(_Front):
    """Logits times 10,000."""

    def forward(self, x: Tensor) -> Tensor:
        """Return logits (B, L)."""
        z: Tensor = SCALE * self.member(x)
        return z


class Softmaxed(_Front):
    """Probabilities in the place of logits."""

    def forward(self, x: Tensor) -> Tensor:
        """Return probabilities (B, L)."""
        return torch.softmax(self.member(x), 1)


class Quantised(_Front):
    """Images rounded to 8 levels."""

    def forward(self, x: Tensor) -> Tensor:
        """Return logits (B, L)."""
        z: Tensor = self.member((x * (LEVELS - 1)).round() / (LEVELS - 1))
        return z


class Noisy(_Front):
    """Gaussian noise on every image, another one in every pass."""

    def forward(self, x: Tensor) -> Tensor:
        """Return logits (B, L)."""
        z: Tensor = self.member(x + NOISE * torch.randn_like(x))
        return z


class Jpeg(_Front):
    """Every image compressed to a JPEG of quality 80 and back."""

    def forward(self, x: Tensor) -> Tensor:
        """Return logits (B, L)."""
        z: Tensor = self.member(corruptions.get("jpeg_compression")(x.detach().clamp(0, 1), 1, table="cifar"))
        return z


class Purifying(_Front):
    """Images that walk towards the label they are given, in front of the member: an anti-adversary layer.

    Alfarra et al. 2022, "Combating adversaries with anti-adversaries" (arXiv:2103.14347); its attackers differentiate
    through the last pass alone, the walk counts as a constant.
    """

    def forward(self, x: Tensor) -> Tensor:
        """Return logits (B, L)."""
        point = x.detach()
        for _ in range(WALK):
            with torch.enable_grad():
                z = self.member(point.requires_grad_(True))
                loss = functional.cross_entropy(z, z.argmax(1), reduction="sum")
            point = point.detach() - STRIDE * torch.autograd.grad(loss, point)[0].sign()
        logits: Tensor = self.member(x + (point - x).detach())
        return logits


def clamped_log(logits: Tensor) -> Tensor:
    """Return the log of the mean probability, clamped below: flat where the model is sure."""
    return torch.softmax(logits, -1).mean(0).clamp_min(FLOOR).log()


def largest(logits: Tensor) -> Tensor:
    """Return for each image the log-probabilities of the member that is surest."""
    each = torch.log_softmax(logits, -1)
    surest = each.amax(2).argmax(0)
    chosen: Tensor = each[surest, torch.arange(each.shape[1], device=each.device)]
    return chosen


def _members(front: type[_Front]) -> Callable[[Ensemble], Ensemble]:
    return lambda ensemble: Ensemble([front(member) for member in ensemble.members], ensemble.rule).eval()


def _fused(rule: Callable[[Tensor], Tensor]) -> Callable[[Ensemble], Ensemble]:
    return lambda ensemble: Ensemble(list(ensemble.members), rule).eval()


def _drawn(ensemble: Ensemble) -> Ensemble:
    return Ensemble(list(ensemble.members), "random").eval()


@contextmanager
def registered() -> Iterator[None]:
    """Make the faulty attacks known by name while the block runs."""

    def idle(
        model: nn.Module, x: Tensor, y: Tensor, *, eps: float, norm: str = "linf", steps: int = 10,
        generator: object = None, trace: object = None,
    ) -> Tensor:  # fmt: skip
        """Return the images as they came."""
        return x.clone()

    def twice(
        model: nn.Module, x: Tensor, y: Tensor, *, eps: float, norm: str = "linf", steps: int = 100,
        generator: object = None, trace: object = None,
    ) -> Tensor:  # fmt: skip
        """PGD in a ball of twice the radius."""
        made: Tensor = attacks.attack.get("pgd")(
            model, x, y, eps=2 * eps, steps=steps, norm=norm, generator=generator, trace=trace
        )
        return made

    attacks.attack(IDLE[0], norms=("linf", "l2"), iterative=True, source="planted")(idle)
    attacks.attack("self-test-twice", norms=("linf", "l2"), iterative=True, source="planted")(twice)
    try:
        yield
    finally:
        attacks.attack.remove(IDLE[0])
        attacks.attack.remove("self-test-twice")
