"""JSMA, the saliency map attack of Papernot et al.: few features, changed one or two at a time."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor
from torch.nn import functional

from robustkit.attacks import attack
from robustkit.attacks._ascent import Generator, Model
from robustkit.attacks._saliency import best_feature, best_pair
from robustkit.base.errors import UserError
from robustkit.functional.batching import by_rows
from robustkit.functional.losses import margin, succeeded
from robustkit.functional.norms import size
from robustkit.functional.sampling import as_generator
from robustkit.functional.trace import Trace
from robustkit.functional.waits import put

AIMS = ("next-best", "away", "least-likely", "random", "all")
SALIENCIES = ("prob", "logprob")
LIMITS = ("features", "steps")
MOVABLE = ("room", "below-one")
ROOM = 1e-3  # a feature this share of theta from the edge counts as saturated


@attack(
    "jsma",
    norms=("l0",),
    budget="minimum",
    iterative=True,
    unlimited={"gamma": 1.0, "limit": "features", "movable": "room"},
    family="smallest",
    source="Papernot et al. 2016, arXiv:1511.07528",
)
def jsma(
    model: Model,
    x: Tensor,
    y: Tensor,
    *,
    theta: float = 0.1,
    gamma: float = 0.1,
    pair: bool = False,
    increase: bool = True,
    limit: Literal["features", "steps"] = "features",
    movable: Literal["room", "below-one"] = "room",
    aim: Literal["next-best", "away", "least-likely", "random", "all"] = "next-best",
    saliency: Literal["prob", "logprob"] = "prob",
    targeted: bool = False,
    generator: Generator = None,
    trace: Trace | None = None,
) -> Tensor:
    """Jacobian saliency map attack: changes as few features as possible, each step the most salient one or two.

    A step adds theta to the feature i with the largest a_i |b_i| among those with a_i > 0 > b_i (ADP paper, section
    2.2), a = dF_t/dx, b = sum_{j != t} dF_j/dx; with ``pair``, to the features p, q with the largest
    (a_p + a_q) |b_p + b_q|, both sums in the same sense (Papernot et al., algorithm 3). To decrease, all signs turn.
    A feature may be chosen again until it reaches the edge of [0, 1]; a sample ends at its first success, or when no
    feature qualifies.

    Which F: with "prob" the fused probabilities, of which b = -a, computed from d log F_t/dx = (dF_t/dx) / F_t, which
    has the same signs and order in a sample and never saturates: one backward pass. With "logprob" F is log softmax(z),
    which for a model of logits differs from them by a constant of the row: two backward passes. Deviations from the
    papers: the choice of the target in untargeted mode (below; the published code draws one at random or takes
    (y + 1) % 10), any wrong label then ends the attack, and the best pair is found without a d x d table. The ADP code
    is ``aim="away", increase=False, limit="steps", movable="below-one"``: it lowers F_y, and stands still where the
    most salient feature is at 0; it also never stops early, and differentiates F_y itself, whose gradient vanishes as
    F_y nears 1.

    Parameters
    ----------
    model : callable
        x (B, C, H, W) in [0, 1] to logits or log-probabilities (B, L).
    x, y : Tensor
        Images, and true labels (B,) or, if ``targeted``, target labels.
    theta : float
        Change of a feature in a step, in pixel units, above 0 (the ADP paper's eps: 0.2 on MNIST, 0.1 on CIFAR-10).
    gamma : float
        Share of the d = C H W features that may change, in (0, 1].
    pair : bool
        Two features a step instead of one.
    increase : bool
        Add theta (True) or subtract it.
    limit : {"features", "steps"}
        What gamma limits: the features that change, of which each may then go on to the edge, or, as in both published
        codes, the steps, to gamma * d (pairs: half of that). "steps" is much weaker where theta is small.
    movable : {"room", "below-one"}
        Which features may be chosen: those with room left on the side they move to, or, as in the ADP code, those below
        1, whichever way they move. Lowering, that bars the features at 1, and a sample whose most salient feature is at
        0 ends there, since the same one would be chosen again and again without effect.
    aim : {"next-best", "away", "least-likely", "random", "all"}
        What an untargeted attack aims at: at each step the best wrong label; anything but y; the wrong label that is
        least likely for x; one drawn for each sample; or every wrong label in turn, fewest changed features kept.
    saliency : {"prob", "logprob"}
        Of which F, see above.
    generator : SampleGenerator, torch.Generator, int or None
        Source of the random targets.

    Returns
    -------
    Tensor
        Adversarial images, shape and dtype of x; x itself where it is won already, or where none was found.

    Raises
    ------
    UserError
        If theta or gamma is out of its range, gamma * d allows no step, or a name is unknown.
    """
    together = 2 if pair else 1
    steps = _steps(theta, gamma, together, x.shape[1:].numel())
    for name, value, known in (
        ("aim", aim, AIMS), ("saliency", saliency, SALIENCIES), ("limit", limit, LIMITS), ("movable", movable, MOVABLE),
    ):  # fmt: skip
        if value not in known:
            raise UserError(f"{name} '{value}' is none of {', '.join(known)}.")
    trace = trace or Trace(len(x))
    with torch.no_grad():
        z = model(x)
    trace.count(torch.arange(len(x)), forwards=1)
    best, least = x.detach().clone(), torch.full((len(x),), x.shape[1:].numel() + 1, device=x.device)
    rows = torch.nonzero(~succeeded(z, y, targeted)).squeeze(1)
    saliency_map = _SaliencyMap(model, saliency, aim == "away" and not targeted)
    moves = _Moves(
        change=theta if increase else -theta, together=together, allowed=steps * together, movable=movable,
        steps=steps if limit == "steps" else steps * math.ceil(1 / theta),
    )  # fmt: skip
    for target in _targets(z, y, "given" if targeted else aim, generator, x):
        _go(model, x, y, target, best, least, rows, moves, saliency_map, targeted, trace)
    return best


def _steps(theta: float, gamma: float, together: int, features: int) -> int:
    if not 0 < theta <= 1:
        raise UserError(f"theta = {theta:g} is out of range: give a change of a feature above 0 and at most 1.")
    if not 0 < gamma <= 1:
        raise UserError(f"gamma = {gamma:g} is out of range: give a share of the features above 0 and at most 1.")
    steps = math.floor(gamma * features / together + 1e-9)
    if steps == 0:
        raise UserError(
            f"gamma = {gamma:g} allows no step on {features} features, {together} at a time: "
            f"give at least {together / features:.3g}."
        )
    return steps


def _targets(z: Tensor, y: Tensor, aim: str, generator: Generator, x: Tensor) -> Iterator[Tensor | None]:
    """Yield the target labels (B,) of each run; None: the best wrong label at each step."""
    classes = z.shape[1]
    if aim in ("given", "away"):
        yield y
    elif aim == "next-best":
        yield None
    elif aim == "random":
        offset = as_generator(generator, x).integers(classes - 1, device=y.device)
        yield (y + 1 + offset) % classes
    else:
        wrong = z.scatter(1, y[:, None], float("-inf")).argsort(dim=1, descending=True, stable=True)[:, : classes - 1]
        yield from (wrong[:, -1:] if aim == "least-likely" else wrong).unbind(1)


@dataclass(frozen=True)
class _SaliencyMap:
    """How much each feature, increased, raises the target, and how much it lowers the other classes."""

    model: Model
    kind: str
    away: bool  # the target is everything but the label

    def __call__(self, point: Tensor, labels: Tensor, target: Tensor | None) -> tuple[Tensor, Tensor, Tensor]:
        """Return logits (b, L), gain and loss (b, d), each up to a positive factor per sample."""
        rows = (point, labels) if target is None else (point, labels, target)
        z, gain, loss = by_rows(self.model, self._compute, *rows)
        if not bool(torch.isfinite(gain).all() & torch.isfinite(loss).all()):
            raise FloatingPointError("the gradient of the saliency map is not finite")
        if self.away:
            gain, loss = -loss, -gain
        scale = torch.finfo(gain.dtype).tiny
        gain, loss = (part / part.abs().amax(1, keepdim=True).clamp_min(scale) for part in (gain, loss))
        return z, gain, loss

    def _compute(self, point: Tensor, labels: Tensor, target: Tensor | None = None) -> tuple[Tensor, Tensor, Tensor]:
        with torch.enable_grad():
            point = point.detach().requires_grad_(True)
            z = self.model(point)
            logs = functional.log_softmax(z, 1)
            if target is None:
                target = z.detach().scatter(1, labels[:, None], float("-inf")).argmax(1)
            one = logs.gather(1, target[:, None]).sum()
            gain = torch.autograd.grad(one, point, retain_graph=self.kind == "logprob")[0].flatten(1)
            loss = gain
            if self.kind == "logprob":
                loss = -torch.autograd.grad(logs.sum() - one, point)[0].flatten(1)
        return z.detach(), gain, loss

    @property
    def backwards(self) -> int:
        """Backward passes of one call."""
        return 1 if self.kind == "prob" else 2


@dataclass(frozen=True)
class _Moves:
    """Which features may move, how far, and how often."""

    change: float  # of a feature in a step
    together: int  # features of a step
    allowed: int  # features that may change
    movable: str
    steps: int

    def closed(self, point: Tensor, origin: Tensor) -> Tensor:
        """Return which features (b, d) may not move."""
        flat = point.flatten(1)
        room = 1 - flat if self.change > 0 else flat
        changed = (point != origin).flatten(1)
        barred = room <= ROOM * abs(self.change) if self.movable == "room" else flat >= 1
        return barred | (~changed & (changed.sum(1, keepdim=True) > self.allowed - self.together))

    def make(self, point: Tensor, features: Tensor) -> tuple[Tensor, Tensor]:
        """Move the chosen features (b, k) of each sample; return the points, and which samples moved at all."""
        flat = point.flatten(1)
        before = flat.gather(1, features)
        after = (before + self.change).clamp(0.0, 1.0)
        return flat.scatter(1, features, after).view_as(point), (after != before).any(1)


def _go(
    model: Model, x: Tensor, y: Tensor, target: Tensor | None, best: Tensor, least: Tensor, rows: Tensor,
    moves: _Moves, saliency_map: _SaliencyMap, targeted: bool, trace: Trace,
) -> None:  # fmt: skip
    """Run each sample in ``rows`` greedily towards its target; a success with fewer features goes to ``best``."""
    origin = x.detach()[rows]
    point = origin.clone()
    for step in range(moves.steps + 1):
        if len(rows) == 0:
            return
        last, labels = step == moves.steps, y[rows]
        if last:
            with torch.no_grad():
                z = model(point)
        else:
            z, gain, loss = saliency_map(point, labels, None if target is None else target[rows])
        trace.count(rows, forwards=1, backwards=0 if last else saliency_map.backwards)
        trace.loss(rows, -margin(z, labels) if targeted else margin(z, labels))
        won = succeeded(z, labels, targeted)
        put(rows, won, (best, point), (least, size(point - origin, "l0")))
        if last:
            return
        closed, sign = moves.closed(point, origin), 1 if moves.change > 0 else -1
        gain, loss = ((sign * part).masked_fill(closed, float("-inf")) for part in (gain, loss))
        features, possible = (best_pair if moves.together == 2 else best_feature)(gain, loss)
        point, moved = moves.make(point, features)
        # Where nothing moved, the same features would be chosen again. More changes than the best so far has (towards
        # another target) cannot become fewer.
        keep = torch.nonzero(~won & possible & moved & (size(point - origin, "l0") < least[rows])).squeeze(1)
        rows, origin, point = rows[keep], origin[keep], point[keep]
