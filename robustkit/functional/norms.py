"""Norm balls: sizes, projections, steepest ascent, random starts; each written once, for every attack and check."""

from __future__ import annotations

import torch
from torch import Tensor

from robustkit.base.names import Norm as Norm
from robustkit.functional.sampling import SampleGenerator

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


def project(x: Tensor, origin: Tensor, eps: float, norm: str) -> Tensor:
    """Return the nearest point to ``x`` in the eps-ball around ``origin`` (B, ...), then clip it to [0, 1].

    Clipping moves every element towards ``origin`` (which is in the box), so the result stays in the ball.
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
    raise ValueError(f"norm '{norm}' is none of linf, l2")


def steepest(gradient: Tensor, norm: str) -> Tensor:
    """Return the unit step of steepest ascent (B, ...): sign(g) for linf, g / |g|_2 for l2; zero where g is zero."""
    if norm == "linf":
        return gradient.sign()
    if norm == "l2":
        return gradient / per_sample(size(gradient, "l2"), gradient).clamp_min(TINY)
    raise ValueError(f"norm '{norm}' is none of linf, l2")


def random_start(origin: Tensor, eps: float, norm: str, generator: SampleGenerator) -> Tensor:
    """Return a point drawn uniformly from the eps-ball around each origin (B, ...), clipped to [0, 1]."""
    shape = origin.shape[1:]
    if norm == "linf":
        delta = generator.uniform(shape, -eps, eps, device=origin.device)
    elif norm == "l2":
        direction = steepest(generator.normal(shape, device=origin.device), "l2")
        radius = generator.uniform((1,), device=origin.device).squeeze(1).pow(1.0 / shape.numel())
        delta = eps * per_sample(radius, origin) * direction
    else:
        raise ValueError(f"norm '{norm}' is none of linf, l2")
    return project(origin + delta, origin, eps, norm)
