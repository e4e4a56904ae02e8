"""Projected steepest ascent in a norm ball: the one loop of the attacks whose steps are set before they start."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from robustkit.functional.batching import by_rows
from robustkit.functional.eot import drawn, expectation
from robustkit.functional.losses import objective, succeeded
from robustkit.functional.norms import per_sample, project, random_start, size, steepest
from robustkit.functional.sampling import SampleGenerator, as_generator
from robustkit.functional.trace import Trace
from robustkit.functional.waits import Finite, Looks, put

Model = Callable[[Tensor], Tensor]
Generator = SampleGenerator | torch.Generator | int | None
# Of a model without wrappers, images and labels: the output that is judged (B, L), and those whose losses add up
# (K, B, L).
Readout = Callable[[Model, Tensor, Tensor], tuple[Tensor, Tensor]]
NOT_FINITE = "the gradient of the attack's loss is not finite"
PULL = 0.75  # weight of the new direction against the last move, alpha of Croce and Hein 2020, arXiv:2003.01690


def ascend(
    model: Model,
    x: Tensor,
    y: Tensor,
    *,
    eps: float,
    steps: int,
    step_size: float | Sequence[float],
    norm: str,
    loss: str,
    targeted: bool,
    restarts: int = 1,
    randomly: bool = False,
    decay: float | None = None,
    pull: float = 1.0,
    stop_early: bool = True,
    readouts: Sequence[Readout | None] = (None,),
    generator: Generator = None,
    trace: Trace | None = None,
    start: Tensor | None = None,
    best: Best | None = None,
    hopeless: Callable[[int, Best], Tensor] | None = None,
    ranked: str = "",
) -> Tensor:
    """Return the best iterate of ``restarts`` runs of ``steps`` projected ascent steps, x_adv (B, C, H, W).

    The best iterate is one that fools the model if there is any, and among equals the one of highest loss; every
    iterate counts, the last one included. With ``stop_early`` a sample leaves the batch at its first success, and later
    restarts see only the samples that still stand. ``decay`` switches momentum of the gradient on (None: off), a
    ``pull`` below 1 that of the moves: x_{i+1} = Proj(x_i + pull (ahead - x_i) + (1 - pull) (x_i - x_{i-1})), ahead the
    projected step. ``step_size`` is that of all steps, or one for each.

    Each restart has one run for each of ``readouts``, which may ascend the loss of other outputs than the one that is
    judged. The loss of the judged output then decides what is best, since the others have no common scale, or the loss
    that is ``ranked`` by: cross-entropy is 0 wherever a model is very sure, and tells no iterate from another there.

    Runs begin at ``start`` (B, C, H, W), by default at x, or with ``randomly`` at random points. A ``best`` that is
    given is what is improved on; what it has won is not attacked again. ``hopeless`` is asked before each run, given
    its number and the best so far, which samples (B,) the run shall leave alone.

    Of an ensemble whose members are drawn, the distribution of answers is judged, and its mean probability ascended: an
    iterate is a success where all answers are wrong, and the best is the one where the fewest are right.
    """
    best, start = best or Best(x), x if start is None else start
    draws = as_generator(generator, x)
    trace = trace or Trace(len(x))
    gain, random = objective(loss, targeted), bool(chances(model))
    judged = objective("ce" if random else ranked or loss, targeted)
    sizes = [step_size] * steps if isinstance(step_size, float | int) else list(step_size)
    finite = Finite()
    for run, given in enumerate([*readouts] * restarts):
        readout = given or (as_drawn if random else None)
        open_ = ~best.won if stop_early else torch.ones_like(best.won)
        rows = torch.nonzero(open_ if hopeless is None else open_ & ~hopeless(run, best)).squeeze(1)
        if len(rows) == 0:
            break
        origin, labels = x[rows], y[rows]
        # Every sample draws, standing or not, so that a sample's stream does not depend on the others.
        first = (random_start(x, eps, norm, draws) if randomly else start)[rows]
        point, before, momentum = first, first, torch.zeros_like(origin)
        looks, standing = Looks(), None
        for step in range(steps + 1):
            last = step == steps
            z, values, gradient = value_and_gradient(
                model, point, labels, gain, backward=not last, readout=readout, finite=finite, standing=standing
            )
            trace.count(rows, forwards=1, backwards=0 if last else 1, standing=standing)
            trace.loss(rows, values, standing)
            height = values if readout is None else judged(z, labels)
            best.update(rows, point, height, succeeded(z, labels, targeted, random), standing)
            if last:
                break
            keep, standing = looks.leave(~best.won[rows]) if stop_early else (None, None)
            if keep is not None:
                rows, origin, labels = rows[keep], origin[keep], labels[keep]
                point, before, gradient, momentum = point[keep], before[keep], gradient[keep], momentum[keep]
                if len(rows) == 0:
                    break
            if decay is not None:
                momentum = decay * momentum + gradient / per_sample(size(gradient, "l1"), gradient).clamp_min(1e-30)
                gradient = momentum
            ahead = project(point + sizes[step] * steepest(gradient, norm), origin, eps, norm)
            if pull < 1 and step:  # the first move has none before it
                ahead = project(point + pull * (ahead - point) + (1 - pull) * (point - before), origin, eps, norm)
            point, before = ahead, point
    finite.settle()
    return best.x


def chances(model: Model) -> tuple[float, ...]:
    """Return with what probability each member of an ensemble is drawn; nothing where none is."""
    return tuple(getattr(drawn(model)[0], "chances", ()))


def as_drawn(single: Model, x: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
    """Read the log of the distribution of answers off an ensemble whose members are drawn, and its mean probability."""
    logits = single.member_logits(x)  # type: ignore[attr-defined]
    return single.fuse(logits), single.shown(logits)[None]  # type: ignore[attr-defined]


def gliding(eps: float, steps: int) -> list[float]:
    """Return step sizes that fall from 2 eps to nothing by a cosine, 2 eps (1 + cos(pi k / steps)) / 2."""
    return [eps * (1 + math.cos(math.pi * k / steps)) for k in range(steps)]


def value_and_gradient(
    model: Model,
    point: Tensor,
    y: Tensor,
    gain: Callable[..., Tensor],
    *more: Tensor,
    backward: bool,
    readout: Readout | None = None,
    finite: Finite | None = None,
    standing: Tensor | None = None,
) -> tuple[Tensor, Tensor, Tensor]:
    """Return outputs, per-sample gain and its gradient with respect to the images (empty without ``backward``).

    The gain is that of ``gain(z, y, *more)``, each of them one row per sample, or the sum of those of the outputs that
    ``readout`` gives. Of a model that is :class:`~robustkit.functional.eot.Averaged` all three are means over its
    passes.

    That the gradient is finite, in the rows that are ``standing`` (None: in all), is noted in ``finite``, which its
    owner settles; without one it is looked at now.
    """
    single, draws = drawn(model)

    def compute(point: Tensor, *labels: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        def once() -> tuple[Tensor, Tensor, Tensor]:
            with torch.set_grad_enabled(backward):
                x = point.detach().requires_grad_(backward)
                if readout is None:
                    z = single(x)
                    values = gain(z, *labels)
                else:
                    z, ascended = readout(single, x, labels[0])
                    values = torch.stack([gain(out, *labels) for out in ascended]).sum(0)
                gradient = torch.autograd.grad(values.sum(), x)[0] if backward else x.new_empty(0)
            return z.detach(), values.detach(), gradient

        return expectation(once, draws)

    z, values, gradient = by_rows(model, compute, point, y, *more)
    if backward:
        noted = Finite() if finite is None else finite
        noted.note(gradient, NOT_FINITE, standing)
        if finite is None:
            noted.settle()
    return z, values, gradient


class Best:
    """The best iterate of each sample so far: a success beats any failure, then the higher loss wins."""

    def __init__(self, x: Tensor) -> None:
        self.x = x.detach().clone()
        self.value = torch.full((len(x),), float("-inf"), device=x.device)
        self.won = torch.zeros(len(x), dtype=torch.bool, device=x.device)

    def update(self, rows: Tensor, point: Tensor, value: Tensor, won: Tensor, standing: Tensor | None = None) -> None:
        """Note iterates (b, ...) of the samples at ``rows``, or of those of them that are ``standing``."""
        held = self.won[rows]
        better = (won & ~held) | ((won == held) & (value > self.value[rows]))
        if standing is not None:
            better = better & standing
        put(rows, better, (self.x, point), (self.value, value), (self.won, won))
