"""Projected steepest ascent in a norm ball: the one loop that FGSM, BIM, PGD and MIM share."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from robustkit.batching import by_rows
from robustkit.losses import objective, succeeded
from robustkit.norms import per_sample, project, random_start, size, steepest
from robustkit.sampling import SampleGenerator, as_generator
from robustkit.trace import Trace

Model = Callable[[Tensor], Tensor]
Generator = SampleGenerator | torch.Generator | int | None


def ascend(
    model: Model,
    x: Tensor,
    y: Tensor,
    *,
    eps: float,
    steps: int,
    step_size: float,
    norm: str,
    loss: str,
    targeted: bool,
    restarts: int = 1,
    randomly: bool = False,
    decay: float | None = None,
    stop_early: bool = True,
    generator: Generator = None,
    trace: Trace | None = None,
) -> Tensor:
    """Return the best iterate of ``restarts`` runs of ``steps`` projected ascent steps, x_adv (B, C, H, W).

    The best iterate is one that fools the model if there is any, and among equals the one of highest loss; every
    iterate counts, the last one included. With ``stop_early`` a sample leaves the batch at its first success, and later
    restarts see only the samples that still stand. ``decay`` switches momentum on (None: off).
    """
    best = Best(x)
    draws = as_generator(generator, x)
    trace = trace or Trace(len(x))
    gain = objective(loss, targeted)
    for _ in range(restarts):
        rows = torch.nonzero(~best.won).squeeze(1) if stop_early else torch.arange(len(x), device=x.device)
        if len(rows) == 0:
            break
        origin, labels = x[rows], y[rows]
        # Every sample draws, standing or not, so that a sample's stream does not depend on the others.
        start = random_start(x, eps, norm, draws)[rows] if randomly else origin
        point, momentum = start, torch.zeros_like(origin)
        for step in range(steps + 1):
            last = step == steps
            z, values, gradient = value_and_gradient(model, point, labels, gain, backward=not last)
            trace.count(rows, forwards=1, backwards=0 if last else 1)
            trace.loss(rows, values)
            best.update(rows, point, values, succeeded(z, labels, targeted))
            if last:
                break
            keep = ~best.won[rows]
            if stop_early and not bool(keep.all()):
                rows, origin, labels = rows[keep], origin[keep], labels[keep]
                point, gradient, momentum = point[keep], gradient[keep], momentum[keep]
                if len(rows) == 0:
                    break
            if decay is not None:
                momentum = decay * momentum + gradient / per_sample(size(gradient, "l1"), gradient).clamp_min(1e-30)
                gradient = momentum
            point = project(point + step_size * steepest(gradient, norm), origin, eps, norm)
    return best.x


def value_and_gradient(
    model: Model, point: Tensor, y: Tensor, gain: Callable[..., Tensor], *more: Tensor, backward: bool
) -> tuple[Tensor, Tensor, Tensor]:
    """Return logits, per-sample gain and its gradient with respect to the images (empty without ``backward``).

    The gain is that of ``gain(z, y, *more)``, each of them one row per sample.
    """

    def compute(point: Tensor, *labels: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        with torch.set_grad_enabled(backward):
            point = point.detach().requires_grad_(backward)
            z = model(point)
            values = gain(z, *labels)
            gradient = torch.autograd.grad(values.sum(), point)[0] if backward else point.new_empty(0)
        return z.detach(), values.detach(), gradient

    z, values, gradient = by_rows(model, compute, point, y, *more)
    if backward and not bool(torch.isfinite(gradient).all()):
        raise FloatingPointError("the gradient of the attack's loss is not finite")
    return z, values, gradient


class Best:
    """The best iterate of each sample so far: a success beats any failure, then the higher loss wins."""

    def __init__(self, x: Tensor) -> None:
        self.x = x.detach().clone()
        self.value = torch.full((len(x),), float("-inf"), device=x.device)
        self.won = torch.zeros(len(x), dtype=torch.bool, device=x.device)

    def update(self, rows: Tensor, point: Tensor, value: Tensor, won: Tensor) -> None:
        better = (won & ~self.won[rows]) | ((won == self.won[rows]) & (value > self.value[rows]))
        chosen = rows[better]
        self.x[chosen] = point.detach()[better]
        self.value[chosen] = value[better].to(self.value.dtype)
        self.won[chosen] = won[better]
