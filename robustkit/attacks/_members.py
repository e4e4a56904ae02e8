"""What attacks made for ensembles need of one: its members' logits beside the fused output, on one scale."""

from __future__ import annotations

import torch
from torch import Tensor

from robustkit.attacks._ascent import Model
from robustkit.functional.eot import drawn

TINY = 1e-6  # of a gap: nobody is as undecided as that


def count(model: Model) -> int:
    """Return how many members a model has that shows them; 0: it is attacked as it is."""
    single, _ = drawn(model)
    return len(single) if all(hasattr(single, name) for name in ("member_logits", "fuse", "__len__")) else 0


def fusion(model: Model) -> str:
    """Return the name of an ensemble's fusion rule, empty where it has none."""
    return str(getattr(drawn(model)[0], "fusion", ""))


def outputs(single: Model, x: Tensor) -> tuple[Tensor, Tensor]:
    """Return member logits (M, B, L) and the fused output (B, L) of one pass; a plain model is its only member."""
    if not count(single):
        z = single(x)
        return z[None], z
    logits: Tensor = single.member_logits(x)  # type: ignore[attr-defined]
    return logits, single.fuse(logits)  # type: ignore[attr-defined]


def gap(z: Tensor) -> Tensor:
    """Return how far the two largest of (..., L) are apart, (..., 1); no gradient flows through it."""
    top = z.detach().topk(2, -1).values
    return (top[..., :1] - top[..., 1:]).clamp_min(TINY)


def by_gap(z: Tensor) -> Tensor:
    """Return (..., L) with a gap of 1 between its two largest entries.

    Cross-entropy then sees every class that comes near, however sure the model is, and no size of the logits blinds it,
    as in the MIFPE loss (arXiv:2507.22428 compares it with others).
    """
    return z / gap(z)


def by_spread(z: Tensor) -> Tensor:
    """Return (..., L) with a standard deviation of 1; no gradient flows through it.

    Unlike by its gap, an output on this scale grows softer as two classes come level: a step then looks at the nearest
    class while it is far, and at all that are near once it is close.
    """
    return z / z.detach().std(-1, keepdim=True).clamp_min(TINY)


def mean_of(chosen: Tensor, values: Tensor) -> Tensor:
    """Return the mean of values (M, B, L) with weights (M, B), 0 where all weights are: (B, L)."""
    return (chosen[..., None] * values).sum(0) / chosen.sum(0).clamp_min(torch.finfo(values.dtype).tiny)[:, None]
