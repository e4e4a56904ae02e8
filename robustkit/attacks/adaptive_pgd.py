"""Adaptive PGD, which is to be misclassified and to be taken for normal by a detector."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from robustkit.attacks import attack
from robustkit.attacks._ascent import NOT_FINITE, Best, Generator, Model
from robustkit.base.errors import unknown
from robustkit.functional.batching import by_rows
from robustkit.functional.detectors import DETECTORS, Detector, normality
from robustkit.functional.eot import drawn, expectation
from robustkit.functional.losses import objective, succeeded
from robustkit.functional.norms import Norm, per_sample, project, random_start, steepest
from robustkit.functional.sampling import as_generator
from robustkit.functional.trace import Trace
from robustkit.functional.waits import Finite

FACTOR = 10.0  # by which a weight changes while only one end of its range is known
LAST = 0.1  # of the step size is left at the last step
TINY = 1e-30  # guards a division by the length of a zero gradient


@attack(
    "adaptive-pgd",
    norms=("linf", "l2"),
    iterative=True,
    source="robustkit; Carlini and Wagner 2017, arXiv:1705.07263; Bryniarski et al. 2021, arXiv:2106.15023",
)
def adaptive_pgd(
    model: Model,
    x: Tensor,
    y: Tensor,
    *,
    eps: float,
    steps: int = 100,
    step_size: float | None = None,
    score: Detector = "log-ed",
    weight: float = 0.1,
    search_steps: int = 4,
    confidence: float = 0.01,
    norm: Norm = "linf",
    targeted: bool = False,
    generator: Generator = None,
    trace: Trace | None = None,
) -> Tensor:
    """Adaptive PGD: be misclassified and look normal to a detector, with a weight searched for each sample.

    Ascends F(x) + w S(x): F = min(margin, confidence), the margin in nats of a misclassification, S a detector score
    (:mod:`robustkit.functional.detectors`). Of both, the gradient with respect to the member logits is scaled to length
    1, so that w = 1 pulls at the logits equally hard whatever the score's unit. Where F is reached, only S is ascended.
    The step size falls linearly to a tenth. After each of ``search_steps`` runs w grows where the run found an image
    that is misclassified, and falls where it did not: by a factor of 10, then by bisection of its logarithm. A run
    starts at a random point of the ball, every second one at the best misclassified image so far, where there is one.
    Of all iterates that are misclassified by ``confidence``, the one of highest score is returned.

    A model without members (another callable, one member of an ensemble) is taken for an ensemble of one. There the
    scores that compare members say nothing, and what is left is PGD on the margin.

    Parameters
    ----------
    model : callable
        x (B, C, H, W) in [0, 1] to logits or log-probabilities (B, L). One with members has ``member_logits(x)``
        (M, B, L) and ``fuse(member_logits)`` (B, L), as :class:`robustkit.ensembles.ensemble.Ensemble` has.
    x, y : Tensor
        Images, and true labels (B,) or, if ``targeted``, target labels.
    eps : float
        Budget in pixel units [0, 1].
    steps : int
        Steps of each run.
    step_size : float or None
        The first, in pixel units; None: eps / 10.
    score : str
        What the detector looks at: a key of :data:`robustkit.functional.detectors.DETECTORS`.
    weight : float
        w of the first run.
    search_steps : int
        Runs, one after the other, each with another weight.
    confidence : float
        Margin, in nats, up to which misclassification is asked for: rounding must not undo it.

    Returns
    -------
    Tensor
        Adversarial images, shape and dtype of x; where no iterate is misclassified, that of the largest margin.

    Raises
    ------
    UserError
        If the score is unknown.
    FloatingPointError
        If a gradient is not finite.
    """
    if score not in DETECTORS:
        raise unknown("score", score, DETECTORS)
    trace, draws = trace or Trace(len(x)), as_generator(generator, x)
    every, size = torch.arange(len(x), device=x.device), eps / 10 if step_size is None else step_size
    read, margin = _reader(model), objective("margin", targeted)
    best, weights = Best(x), _Weights(torch.full((len(x),), weight, dtype=x.dtype, device=x.device))

    def look(single: Any, point: Tensor, labels: Tensor, w: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        logits, z = read(single, point)
        gain, normal = margin(z, labels), normality(score, logits, z)
        pull = _unit(gain.clamp_max(confidence), logits) + per_sample(w, logits[0]) * _unit(normal, logits)
        gradient = torch.autograd.grad(logits, point, pull)[0]
        return z.detach(), torch.stack([gain, normal], 1).detach(), gradient

    finite = Finite()
    for run in range(max(1, search_steps)):
        fresh = random_start(x, eps, norm, draws)
        point = torch.where(per_sample(best.won, x), best.x, fresh) if run % 2 else fresh
        found = torch.zeros_like(best.won)
        for step in range(steps + 1):
            z, values, gradient = _expected(model, look, point, y, weights.value)
            finite.note(gradient, NOT_FINITE)
            trace.count(every, forwards=1, backwards=1)
            gain, normal = values.unbind(1)
            trace.loss(every, gain.clamp_max(confidence) + weights.value * normal)
            won = succeeded(z, y, targeted) & (gain >= confidence)
            best.update(every, point, torch.where(won, normal, gain), won)
            found |= won & (step > 0)  # the start of a run says nothing of its weight
            if step < steps:
                length = size * (1 - (1 - LAST) * step / max(1, steps - 1))
                point = project(point + length * steepest(gradient, norm), x, eps, norm)
        weights.update(found)
    finite.settle()
    return best.x


def _expected(model: Model, look: Callable[..., Any], *rows: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Return what ``look`` gives of rows, in batches, and of a randomised model its mean over several passes."""
    single, passes = drawn(model)

    def compute(point: Tensor, *more: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        def once() -> tuple[Tensor, Tensor, Tensor]:
            with torch.enable_grad():
                z, values, gradient = look(single, point.detach().requires_grad_(True), *more)
            return z, values, gradient

        return expectation(once, passes)

    z, values, gradient = by_rows(model, compute, *rows)
    return z, values, gradient


def _reader(model: Model) -> Callable[[Any, Tensor], tuple[Tensor, Tensor]]:
    """Return how member logits (M, B, L) and fused log-probabilities (B, L) are read off a model, or an output."""
    single, _ = drawn(model)
    if all(hasattr(single, name) for name in ("member_logits", "fuse")):

        def members(model: Any, x: Tensor) -> tuple[Tensor, Tensor]:
            logits = model.member_logits(x)
            return logits, model.fuse(logits)

        return members

    def alone(model: Any, x: Tensor) -> tuple[Tensor, Tensor]:
        logits = model(x)[None]
        return logits, torch.log_softmax(logits[0], -1)

    return alone


def _unit(values: Tensor, logits: Tensor) -> Tensor:
    """Return the gradient of values (B,) with respect to logits (M, B, L), of length 1 for each sample, or zero."""
    if not values.requires_grad:
        return torch.zeros_like(logits)
    gradient = torch.autograd.grad(values.sum(), logits, retain_graph=True)[0]
    length: Tensor = torch.linalg.vector_norm(gradient, dim=(0, 2), keepdim=True)
    return gradient / length.clamp_min(TINY)


class _Weights:
    """The weight of each sample, (B,), and between what it lies."""

    def __init__(self, value: Tensor) -> None:
        self.value = value
        self.low, self.high = torch.zeros_like(value), torch.full_like(value, float("inf"))

    def update(self, found: Tensor) -> None:
        """Raise the weights where a misclassified image was found, lower the others."""
        self.low = torch.where(found, self.value, self.low)
        self.high = torch.where(found, self.high, self.value)
        middle = (self.low * self.high).sqrt()
        grown = torch.where(torch.isinf(self.high), self.low * FACTOR, middle)
        self.value = torch.where(self.low == 0, self.high / FACTOR, grown)
