"""Minimum-norm attacks: the linearised decision boundary, the way to it within the box, the nearest image found."""

from __future__ import annotations

from functools import partial

import torch
from torch import Tensor

from robustkit.attacks._ascent import Model
from robustkit.attacks._parts import forward
from robustkit.functional.batching import by_rows
from robustkit.functional.losses import margin, succeeded
from robustkit.functional.norms import TINY, per_sample, size
from robustkit.functional.trace import Trace
from robustkit.functional.waits import Finite, put, settled

NOT_FINITE = "the gradient of the difference of two logits is not finite"
ROUNDING = 1e-5  # of what lies between an image's outputs: what a sum in another order may change, and ten times that
WIDEST = 1e3  # that counts: an output of -inf, or of a class that is impossible, is no scale
DUAL = {"linf": "l1", "l2": "l2", "l1": "linf"}


class Nearest:
    """The adversarial image of smallest distortion found so far for each sample; x itself where there is none.

    Parameters
    ----------
    x, y : Tensor
        Images (B, C, H, W) and labels (B,), or target labels if ``targeted``.
    norm : str
        What distortions are measured in: l0, l1, l2 or linf.
    """

    def __init__(self, x: Tensor, y: Tensor, norm: str, targeted: bool) -> None:
        self.origin, self.y, self.norm, self.targeted = x, y, norm, targeted
        self.x = x.detach().clone()
        self.distance = torch.full((len(x),), float("inf"), dtype=x.dtype, device=x.device)

    def update(
        self, rows: Tensor, point: Tensor, z: Tensor, standing: Tensor | None = None, distance: Tensor | None = None
    ) -> Tensor:
        """Note points (b, ...) with their outputs z (b, L); return which are adversarial, bool (b,).

        Of samples that are not ``standing`` (None: all are) nothing is noted. ``distance``: that of the points from x,
        (b,), where it is known.
        """
        won = succeeded(z, self.y[rows], self.targeted)
        if distance is None:
            distance = size(point - self.origin[rows], self.norm)
        better = won & (distance < self.distance[rows])
        if standing is not None:
            better = better & standing
        put(rows, better, (self.x, point), (self.distance, distance))
        return won

    def update_clear(self, rows: Tensor, point: Tensor, z: Tensor) -> Tensor:
        """Note points whose gap is beyond what rounding moves it by, as :meth:`update` does all.

        For searches that end at the boundary: what is adversarial by rounding alone is not so in another batch.
        """
        beyond = gap(z, self.y[rows], self.targeted) > ROUNDING * (z.amax(1) - z.amin(1)).clamp_max(WIDEST)
        return self.update(rows, point, z, standing=beyond)

    def standing(self, enough: float = 0.0) -> Tensor:
        """Return the rows whose distortion is still above ``enough``."""
        return torch.nonzero(self.distance > enough).squeeze(1)


def begun(model: Model, x: Tensor, y: Tensor, norm: str, targeted: bool, trace: Trace) -> tuple[Nearest, Tensor]:
    """Return the nearest images after a first pass, at x itself, and its outputs (N, L)."""
    nearest, every = Nearest(x, y, norm, targeted), torch.arange(len(x), device=x.device)
    z = forward(model, x, every, trace)
    nearest.update(every, x, z)
    return nearest, z


def gap(z: Tensor, y: Tensor, targeted: bool) -> Tensor:
    """Return by how much the attack wins, (b,): positive exactly where it is won."""
    return -margin(z, y) if targeted else margin(z, y)


def linearise(
    model: Model,
    point: Tensor,
    y: Tensor,
    classes: Tensor,
    norm: str,
    targeted: bool,
    finite: Finite,
    standing: Tensor | None = None,
) -> tuple[Tensor, Tensor, Tensor]:
    """Return z (b, L), and value f (b,) and gradient (b, ...) of the nearest of several linearised boundaries.

    The boundaries are f = z_t - z_y = 0 for each column t of ``classes`` (b, k); in the targeted mode there is one,
    f = z_y - max_{i != y} z_i = 0. The distance to one is |f| / |grad f|_q, q the dual norm. It costs k backward
    passes, and the memory of two gradients whatever k is. That the gradient is finite, in the rows that are
    ``standing`` (None: in all), is noted in ``finite``.
    """
    z, f, g = by_rows(model, partial(_linearise, model, norm, targeted), point, y, classes)
    finite.note(g, NOT_FINITE, standing)
    return z, f, g


def _linearise(
    model: Model, norm: str, targeted: bool, point: Tensor, y: Tensor, classes: Tensor
) -> tuple[Tensor, Tensor, Tensor]:
    with torch.enable_grad():
        point = point.detach().requires_grad_()
        z = model(point)
        gaps = gap(z, y, True)[:, None] if targeted else z.gather(1, classes) - z.gather(1, y[:, None])
    count = gaps.shape[1]
    for column in range(count):
        (gradient,) = torch.autograd.grad(gaps[:, column].sum(), point, retain_graph=column + 1 < count)
        value = gaps[:, column].detach()
        away = value.abs() / size(gradient, DUAL[norm]).clamp_min(TINY)
        if column == 0:
            f, g, least = value, gradient, away
            continue
        nearer = away < least
        f, least = torch.where(nearer, value, f), torch.where(nearer, away, least)
        g = torch.where(per_sample(nearer, g), gradient, g)
    return z.detach(), f, g


def to_hyperplane(t: Tensor, w: Tensor, c: Tensor, norm: str) -> Tensor:
    """Return the smallest step d with <w, t + d> at the hyperplane and t + d in the box [0, 1]^n; exact.

    Croce and Hein 2020 (arXiv:1907.02044), problem 3. Each element moves only towards the plane: by min(h, room) for
    linf, by min(h |w_i|, room_i) for l2, by its whole room in the order of falling |w_i| for l1. Where no point of the
    box reaches the plane, d leads to the corner nearest to it. For linf and l2 the multiplier h solves an increasing,
    concave, piecewise linear equation; Newton's method from below ends at its exact root, without a sort.

    Parameters
    ----------
    t, w : Tensor
        Points in the box and normals of the planes, (b, n).
    c : Tensor
        <w, t> - b of each plane <w, x> = b, (b,).
    """
    top = w.abs().amax(1, keepdim=True).clamp_min(TINY)
    v = -w * (torch.where(c >= 0, 1.0, -1.0).to(w.dtype)[:, None] / top)  # the way that leads to the plane
    need, slope = c.abs()[:, None] / top, v.abs()
    room = torch.where(v > 0, 1 - t, torch.where(v < 0, t, torch.zeros_like(t)))
    if norm == "l1":
        steep, order = slope.sort(dim=1, descending=True, stable=True)
        room = room.gather(1, order)
        before = (steep * room).cumsum(1) - steep * room
        move = torch.minimum(((need - before) / steep.clamp_min(TINY)).clamp_min(0), room)
        return v.sign() * torch.zeros_like(move).scatter(1, order, move)
    rate = slope if norm == "l2" else torch.ones_like(slope)

    def newton(free: Tensor) -> tuple[Tensor, Tensor]:
        gained = (slope * torch.where(free, 0.0, room)).sum(1, keepdim=True)
        h = ((need - gained) / (slope * rate * free).sum(1, keepdim=True).clamp_min(TINY)).clamp(0, 1e30)
        return free & (h * rate < room), h

    return v.sign() * torch.minimum(settled(newton, room > 0) * rate, room)


def refine(
    model: Model, nearest: Nearest, low_gap: Tensor, search_steps: int, trace: Trace, enough: float = 0.0
) -> None:
    """Move the results along the line to x, to where the linear interpolation of the gap vanishes, and a little back.

    Each step costs one forward pass and leaves a tenth of the way between that point and the result, so that on a
    linear boundary the overshoot falls tenfold a step. ``low_gap`` is the gap of all samples at x. What is within
    ``enough`` stays where it is.
    """
    rows = torch.nonzero((nearest.distance > enough) & torch.isfinite(nearest.distance)).squeeze(1)
    if search_steps == 0 or len(rows) == 0:
        return
    origin, end, y = nearest.origin[rows], nearest.x[rows], nearest.y[rows]
    low, high = torch.zeros_like(nearest.distance[rows]), torch.ones_like(nearest.distance[rows])
    low_gap = low_gap[rows]
    high_gap = gap(forward(model, end, rows, trace), y, nearest.targeted)
    for _ in range(search_steps):
        zero = low + (high - low) * (low_gap / (low_gap - high_gap).clamp_max(-TINY)).clamp(0, 1)
        middle = zero + 0.1 * (high - zero)
        point = origin + per_sample(middle, origin) * (end - origin)
        z = forward(model, point, rows, trace)
        won, value = nearest.update_clear(rows, point, z), gap(z, y, nearest.targeted)
        low, low_gap = torch.where(won, low, middle), torch.where(won, low_gap, value)
        high, high_gap = torch.where(won, middle, high), torch.where(won, value, high_gap)
