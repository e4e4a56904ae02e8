"""Proximal operators of the norms in a diagonal metric, exact: what a proximal step of Adam asks for."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from robustkit.functional.norms import TINY

NEWTON = 20  # steps at most; the equations are convex and most end after three to six


def proximal(u: Tensor, metric: Tensor, weight: Tensor, norm: str) -> Tensor:
    """Return argmin_z weight |z| + (1/2) sum_i metric_i (z_i - u_i)^2 for each row of u (b, n), exact.

    l1 shrinks each element by weight / metric_i; l2 scales each by metric_i t / (metric_i t + weight), t the length of
    the result; linf cuts all at one height t with sum_i metric_i max(|u_i| - t, 0) = weight. The two t are roots of
    convex falling functions, found by Newton's method from below. In place of l0, whose operator only leaves elements
    or drops them, it is sum_i |z_i|^(2/3), whose operator has a closed form as well (Cao et al. 2013).

    Parameters
    ----------
    metric : Tensor, shape (b, n)
        Positive.
    weight : Tensor, shape (b,)
        At least 0.
    """
    w = weight[:, None]
    if norm == "l1":
        return u.sign() * (u.abs() - w / metric).clamp_min_(0)
    if norm == "l0":
        return _two_thirds(u, metric, w)
    if norm == "l2":
        return _shrunk(u, metric, w)
    if norm == "linf":
        return _cut(u, metric, w)
    raise ValueError(f"norm '{norm}' is none of l0, l1, l2, linf")


def _two_thirds(u: Tensor, metric: Tensor, w: Tensor) -> Tensor:
    """Solve (z - |u|) + (c / 3) z^(-1/3) = 0, c = 2 w / metric, in z > 0; 0 where |u| is below the threshold."""
    c, length = (2 * w / metric).clamp_min(TINY), u.abs()
    angle = torch.acosh((27 / 16 * length.square() * c.pow(-1.5)).clamp_min(1))
    p = 2 / math.sqrt(3) * c.pow(0.25) * torch.cosh(angle / 3).sqrt()
    root = ((p + (2 * length / p - p.square()).clamp_min(0).sqrt()) / 2) ** 3
    return u.sign() * torch.where(length > 2 / 3 * (3 * c**3) ** 0.25, root, 0.0)


def _shrunk(u: Tensor, metric: Tensor, w: Tensor) -> Tensor:
    """Solve for the length t: sum_i (metric_i u_i / (metric_i t + w))^2 = 1, or t = 0 where that has no root."""
    pull = metric * u
    t, done = torch.zeros_like(w), torch.zeros_like(w, dtype=torch.bool)
    for _ in range(NEWTON):
        rest = (metric * t + w).clamp_min(TINY)
        ratio = pull / rest
        square = ratio.square()
        total = square.sum(1, keepdim=True)
        # Newton on 1 / sqrt(total) - 1, which is nearly a straight line in t and concave.
        slope = (square * metric / rest).sum(1, keepdim=True)
        step = (total.sqrt() - 1) * total / slope.clamp_min(TINY)
        following = torch.where(done, t, (t + step).clamp_min(0))  # what a row ends at is its own affair
        done = (following - t).abs() <= 1e-6 * following
        t = following
        if bool(done.all()):
            break
    return pull * t / (metric * t + w).clamp_min(TINY)


def _cut(u: Tensor, metric: Tensor, w: Tensor) -> Tensor:
    """Solve for the height t: sum_i metric_i max(|u_i| - t, 0) = w, or t = 0 where the sum is less at 0."""
    length, t = u.abs(), torch.zeros_like(w)
    active = length > 0
    for _ in range(length.shape[1]):
        part = metric * active
        height = ((part * length).sum(1, keepdim=True) - w) / part.sum(1, keepdim=True).clamp_min(TINY)
        t = torch.maximum(t, height)
        still = active & (length > t)
        if torch.equal(still, active):
            break
        active = still
    return torch.minimum(torch.maximum(u, -t), t)
