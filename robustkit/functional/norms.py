"""Norm balls: sizes, projections, steepest ascent, random starts; each written once, for every attack and check."""

from __future__ import annotations

import torch
from torch import Tensor

from robustkit.base.names import Norm as Norm
from robustkit.functional.sampling import SampleGenerator
from robustkit.functional.waits import settled

TINY = 1e-30  # guards a division by the norm of an all-zero gradient, far below any real gradient


def per_sample(values: Tensor, like: Tensor) -> Tensor:
    """Reshape (B,) so that it broadcasts over ``like`` (B, ...)."""
    return values.view(-1, *([1] * (like.dim() - 1)))


def size(delta: Tensor, norm: str) -> Tensor:
    """Return the size of each perturbation (B, ...) as (B,): l0 (changed elements), l1, l2 or linf."""
    flat = delta.flatten(1)
    if norm == "l0":
        return (flat != 0).sum(1).to(flat.dtype)
    if norm == "l1":
        return flat.abs().sum(1)
    if norm == "l2":
        length: Tensor = torch.linalg.vector_norm(flat, dim=1)
        return length
    if norm == "linf":
        return flat.abs().amax(1)
    raise ValueError(f"norm '{norm}' is none of l0, l1, l2, linf")


def onto_ball(delta: Tensor, radius: Tensor, norm: str) -> Tensor:
    """Return the nearest point to delta (b, n) in the ball of each sample's radius (b,).

    For l1 the threshold of the soft-thresholding is found by Newton's method (Michelot 1986), exact after finitely many
    steps; for l0 the elements of largest size are kept, the first of equal ones.
    """
    r = radius[:, None]
    if norm == "linf":
        return torch.minimum(torch.maximum(delta, -r), r)
    if norm == "l2":
        return delta * (r / size(delta, "l2")[:, None].clamp_min(TINY)).clamp_max(1.0)
    if norm == "l0":
        return delta * largest(delta.abs(), radius)
    length = delta.abs()

    def newton(active: Tensor) -> tuple[Tensor, Tensor]:
        over = (length * active).sum(1, keepdim=True) - r
        threshold = (over / active.sum(1, keepdim=True).clamp_min(1)).clamp_min(0)
        return active & (length > threshold), threshold

    return delta.sign() * (length - settled(newton, length > 0)).clamp_min(0)


def largest(values: Tensor, count: Tensor) -> Tensor:
    """Return which of each row's values (b, n) are its ``count`` (b,) largest, the first of equal ones; bool (b, n)."""
    order = values.argsort(dim=1, descending=True, stable=True)
    rank = torch.arange(values.shape[1], device=values.device).expand_as(order)
    return torch.zeros_like(values, dtype=torch.bool).scatter(1, order, rank < count[:, None])


def onto_box_and_l1(point: Tensor, origin: Tensor, eps: float) -> Tensor:
    """Return the nearest point to ``point`` (b, n) in the box [0, 1]^n with an l1 distance of at most eps to origin.

    Elements move towards the origin by one threshold t >= 0, but stay at it and in the box: d_i = sign(u_i)
    min(max(|u_i| - t, 0), room_i), u = point - origin. The l1 length falls with t in straight pieces, from breakpoint
    to breakpoint |u_i| and |u_i| - room_i: one sort of them gives the exact t (Croce and Hein 2021, arXiv:2103.01208,
    section 2).
    """
    u = point - origin
    length = u.abs()
    room = torch.where(u > 0, 1 - origin, origin)
    breaks, order = torch.cat([length, (length - room).clamp_min(0)], 1).sort(dim=1, descending=True, stable=True)
    slope = torch.where(order < u.shape[1], 1.0, -1.0).to(u.dtype)
    slopes, heights = slope.cumsum(1), (slope * breaks).cumsum(1)  # of the length just below each breakpoint
    following = torch.cat([breaks[:, 1:], torch.zeros_like(breaks[:, :1])], 1)
    reached = heights - slopes * following  # the length at the next breakpoint
    piece = (reached < eps).sum(1, keepdim=True).clamp_max(breaks.shape[1] - 1)
    t = (heights.gather(1, piece) - eps) / slopes.gather(1, piece).clamp_min(1)
    inside = reached[:, -1:] <= eps
    moved = (length - torch.where(inside, 0.0, t.clamp_min(0))).clamp_min(0)
    return (origin + u.sign() * torch.minimum(moved, room)).clamp(0.0, 1.0)


def project(x: Tensor, origin: Tensor, eps: float, norm: str) -> Tensor:
    """Return the nearest point to ``x`` in the eps-ball around ``origin`` (B, ...), then clip it to [0, 1].

    Clipping moves every element towards ``origin`` (which is in the box), so the result stays in the ball. For l1 it is
    the nearest point of ball and box together, which is another one: there most steps lead out of the box.
    """
    if norm == "linf":
        return torch.minimum(torch.maximum(x, origin - eps), origin + eps).clamp_(0.0, 1.0)
    if norm == "l0":  # the largest moves stay, of equal ones the first
        inside = x.clamp(0.0, 1.0)
        rank = (inside - origin).flatten(1).abs().argsort(dim=1, descending=True, stable=True).argsort(dim=1)
        return torch.where(rank.view_as(origin) < eps, inside, origin)
    if norm == "l2":
        delta = x - origin
        length = per_sample(size(delta, "l2"), delta)
        return (origin + delta * (eps / length.clamp_min(TINY)).clamp_max(1.0)).clamp_(0.0, 1.0)
    if norm == "l1":
        return onto_box_and_l1(x.flatten(1), origin.flatten(1), eps).view_as(x)
    raise ValueError(f"norm '{norm}' is none of linf, l2, l1")


def steepest(gradient: Tensor, norm: str) -> Tensor:
    """Return the unit step of steepest ascent (B, ...): sign(g) for linf, g / |g|_2 for l2; zero where g is zero."""
    if norm == "linf":
        return gradient.sign()
    if norm == "l2":
        return gradient / per_sample(size(gradient, "l2"), gradient).clamp_min(TINY)
    raise ValueError(f"norm '{norm}' is none of linf, l2")


def random_start(origin: Tensor, eps: float, norm: str, generator: SampleGenerator) -> Tensor:
    """Return a point drawn uniformly from the eps-ball around each origin (B, ...), clipped to [0, 1].

    For l1 it is the projection of Gaussian noise onto ball and box (arXiv:2103.01208), which is not uniform.
    """
    shape = origin.shape[1:]
    if norm == "linf":
        delta = generator.uniform(shape, -eps, eps, device=origin.device)
    elif norm == "l2":
        direction = steepest(generator.normal(shape, device=origin.device), "l2")
        radius = generator.uniform((1,), device=origin.device).squeeze(1).pow(1.0 / shape.numel())
        delta = eps * per_sample(radius, origin) * direction
    elif norm == "l1":
        delta = generator.normal(shape, device=origin.device)
    else:
        raise ValueError(f"norm '{norm}' is none of linf, l2, l1")
    return project(origin + delta, origin, eps, norm)
