"""ARC, a walk over the linearised boundaries of an ensemble's members, each step kept only if it costs accuracy."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields

import torch
from torch import Tensor

from robustkit.attacks import attack
from robustkit.attacks._ascent import Best, Generator, Model, chances
from robustkit.attacks._boundary import DUAL, linearise
from robustkit.attacks._members import count
from robustkit.attacks._parts import forward, others
from robustkit.functional.batching import Batched
from robustkit.functional.eot import Averaged, drawn
from robustkit.functional.norms import TINY, Norm, per_sample, project, random_start, size, steepest
from robustkit.functional.precision import wide
from robustkit.functional.sampling import as_generator
from robustkit.functional.trace import Trace
from robustkit.functional.waits import Finite, Looks, put

BEYOND = 0.05  # of eps: how far a step goes behind a boundary
EXACT = 1e-9  # what sums of probabilities are rounded by


@attack(
    "arc", norms=("linf", "l2"), iterative=True, family="members", randomised=True,
    source="Dbouk and Shanbhag 2022, arXiv:2206.06737",
)  # fmt: skip
def arc(
    model: Model,
    x: Tensor,
    y: Tensor,
    *,
    eps: float,
    steps: int = 20,
    step_size: float | None = None,
    restarts: int = 1,
    targets: int = 9,
    norm: Norm = "linf",
    targeted: bool = False,
    generator: Generator = None,
    trace: Trace | None = None,
) -> Tensor:
    """ARC: against members that are drawn, steps over each one's nearest boundary that lower the expected accuracy.

    In each iteration a local step u grows from 0, member by member, the likeliest first: with w the gradient of z_k -
    z_y at x_i + u, k the class whose linearised boundary is nearest, and g the steepest unit step, u' = s (u + b g) /
    |u + b g|, b = s (zeta - <w, u> / |w|_q) / (s - zeta) + eps / 20 where zeta, the distance of that boundary from x_i,
    is below s, else s: far enough for u' to cross it whatever u was. It is kept where Proj(x_i + u') has an expected
    accuracy sum_m p_m [member m is right], computed exactly, that falls, or, as the first of its iteration, does not
    rise; then x_{i+1} = Proj(x_i + u). Where members contradict each other the gradient of a mean loss stands still;
    one after the other they do not. Dbouk and Shanbhag 2022, algorithm 1.

    Deviations: s falls from eps to eps / steps unless set, and a step that gains nothing may not undo another's (with
    the authors' constant step opposed members undo each other's); members that are wrong already are passed over;
    boundaries are linearised at the projected point, and zeta is measured from x_i, as b needs it (the authors' code:
    from x_i + u); the best iterate counts, the clean image among them; the run of a sample ends where all answers are
    wrong.

    Members that are not drawn (another fusion rule; the command line refuses it) are taken as drawn with equal
    probabilities. A model without members is its only one: what is left is DeepFool's direction with steps of one
    length, in the ball.

    Parameters
    ----------
    model : callable
        x (B, C, H, W) in [0, 1] to logits or log-probabilities (B, L). One with members has ``view("member-0")``, ...
        and a length, and ``chances`` where they are drawn, as :class:`robustkit.ensembles.ensemble.Ensemble` has.
    x, y : Tensor
        Images, and true labels (B,) or, if ``targeted``, target labels, which all answers are to be.
    eps : float
        Budget in pixel units [0, 1].
    steps : int
        Iterations; each costs a pass of each member that is still right, with ``targets`` backward passes, and a pass
        of all members after it.
    step_size : float or None
        The length s of each iteration's step, in pixel units; None: falls from eps to eps / steps.
    restarts : int
        Runs from other random points of the ball.
    targets : int
        How many other classes are considered, a member's most likely first; at most L - 1.
    generator : SampleGenerator, torch.Generator, int or None
        Source of the random starts.

    Returns
    -------
    Tensor
        Adversarial images, shape and dtype of x, of the lowest expected accuracy that was met.

    Raises
    ------
    FloatingPointError
        If a gradient is not finite.
    """
    x, best, trace, draws = x.detach(), Best(x), trace or Trace(len(x)), as_generator(generator, x)
    members = _Members.of(model, targeted, trace)
    every = torch.arange(len(x), device=x.device)
    lengths = [eps * (1 - k / steps) for k in range(steps)] if step_size is None else [step_size] * steps
    value, _ = members.judge(x, y, every)
    best.update(every, x, -value, value < EXACT)
    finite = Finite()
    for _ in range(restarts):
        # Every sample draws, standing or not, so that a sample's stream does not depend on the others.
        start = random_start(x, eps, norm, draws)
        rows = torch.nonzero(~best.won).squeeze(1)
        if len(rows) == 0:
            break
        value, logits = members.judge(start[rows], y[rows], rows)
        s = _State(rows, x[rows], y[rows], start[rows], torch.zeros_like(x[rows]), value, logits)
        looks, standing = Looks(), None
        for length in lengths:
            best.update(s.rows, s.point, -s.value, s.value < EXACT, standing)
            trace.loss(s.rows, -s.value, standing)
            keep, standing = looks.leave(s.value >= EXACT, standing)
            if keep is not None:
                s = s.select(keep)
                if len(s.rows) == 0:
                    break
            for at in range(len(members.views)):
                _cross(s, members, at, eps, length, targets, norm, finite, standing)
            s.point, s.step = project(s.point + s.step, s.origin, eps, norm), torch.zeros_like(s.step)
        best.update(s.rows, s.point, -s.value, s.value < EXACT, standing)
    finite.settle()
    return best.x


@dataclass
class _Members:
    """The members that may be drawn, the likeliest first, and how likely each is."""

    views: Sequence[Model]
    chances: Tensor
    targeted: bool
    trace: Trace

    @classmethod
    def of(cls, model: Model, targeted: bool, trace: Trace) -> _Members:
        single, passes = drawn(model)
        own = chances(model) or (1 / max(1, count(model)),) * max(1, count(model))
        order = [m for m in sorted(range(len(own)), key=lambda m: -own[m]) if own[m] > 0]
        if not count(model):
            return cls([model], torch.ones(1, dtype=torch.float64), targeted, trace)
        views = [single.view(f"member-{m}") for m in order]
        if passes > 1:
            views = [Averaged(view, passes) for view in views]
        if isinstance(model, Batched):
            views = [Batched(view, model.size) for view in views]
        return cls(views, torch.tensor([own[m] for m in order], dtype=torch.float64), targeted, trace)

    def judge(self, x: Tensor, y: Tensor, rows: Tensor) -> tuple[Tensor, Tensor]:
        """Return how likely an answer is still right, or not the target yet, float64 (b,), and logits (M, b, L)."""
        first, *more = self.views
        logits = [forward(first, x, rows, self.trace)]  # one pass of an ensemble is one of every member
        with torch.no_grad():
            logits += [view(x) for view in more]
        z = torch.stack(logits)
        holding = wide(self.holding(z, y))
        self.chances = self.chances.to(holding)
        return self.chances @ holding, z

    def holding(self, z: Tensor, y: Tensor) -> Tensor:
        """Return whether logits (..., b, L) still stand in the attack's way, bool (..., b)."""
        return (z.argmax(-1) == y) ^ self.targeted


@dataclass
class _State:
    """Where each sample of a run is; every field has one row per sample still in the run, logits their second."""

    rows: Tensor
    origin: Tensor
    y: Tensor
    point: Tensor
    step: Tensor  # of this iteration, so far
    value: Tensor  # expected accuracy at the projection of point + step
    logits: Tensor  # of the members there, (M, b, L)

    def select(self, rows: Tensor) -> _State:
        return _State(*(v[:, rows] if f == "logits" else v[rows] for f, v in self._named()))

    def _named(self) -> list[tuple[str, Tensor]]:
        return [(f.name, getattr(self, f.name)) for f in fields(self)]


def _cross(
    s: _State, members: _Members, at: int, eps: float, length: float, targets: int, norm: str, finite: Finite,
    standing: Tensor | None,
) -> None:  # fmt: skip
    """Step over the nearest boundary of one member, where it is still right, and keep what does not lose."""
    holding = members.holding(s.logits[at], s.y)
    # Of who is not standing nothing is computed, so that this look at a GPU is worth its wait.
    chosen = torch.nonzero(holding if standing is None else holding & standing).squeeze(1)
    if len(chosen) == 0:
        return
    part = s.select(chosen)
    classes = part.y[:, None] if members.targeted else others(part.logits[at], part.y)[:, :targets]
    here = project(part.point + part.step, part.origin, eps, norm)
    _, f, g = linearise(members.views[at], here, part.y, classes, norm, members.targeted, finite)
    members.trace.count(part.rows, forwards=1, backwards=classes.shape[1])
    slope = size(g, DUAL[norm]).clamp_min(TINY)
    left, gone = f.abs() / slope, (g * part.step).flatten(1).sum(1) / slope
    room = length - (left + gone)  # what the step has to spare behind the boundary
    share = torch.where(room > 0, length * left / room.clamp_min(TINY) + BEYOND * eps, torch.full_like(left, length))
    ahead = part.step + per_sample(share, g) * steepest(g, norm)
    ahead = ahead * per_sample(length / size(ahead, norm).clamp_min(TINY), ahead)
    value, logits = members.judge(project(part.point + ahead, part.origin, eps, norm), part.y, part.rows)
    first = size(part.step, norm) == 0  # a step that gains nothing yet may not undo another's
    kept = (value < part.value - EXACT) | (first & (value <= part.value + EXACT))
    put(chosen, kept, (s.step, ahead), (s.value, value), (s.logits.transpose(0, 1), logits.transpose(0, 1)))
