"""Better bounds by gradient ascent on what is free in them: slopes of ReLUs, and multipliers of split ones.

The ascent is in float32, since any slope in [0, 1] and any multiplier above zero give a sound bound; the bound is then
computed anew with what was found, in float64.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from robustkit.certify.bounds import Bounded, Slopes, backward
from robustkit.certify.operations import elements
from robustkit.certify.relaxations import Relu

RATE, DECAY = 0.2, 0.95  # of Adam; a slope goes from 0 to 1
FREE = 2e6  # coefficients of a whole layer's bounds, a sample, up to which their slopes are optimised


@dataclass(frozen=True)
class Ascended:
    """Lower bounds (S, B), the coefficients (S, B, C, H, W) of what they bound from, and what gives them.

    ``slopes`` are those of each ReLU, ``forces`` what split ones add to coefficients of their inputs, (S, B, *shape).
    """

    value: Tensor
    at_least: Tensor
    slopes: dict[int, Tensor]
    forces: dict[int, Tensor]


def ascend(
    found: Bounded, outputs: Mapping[int, Tensor], steps: int, start: Slopes | None = None,
    signs: Mapping[int, Tensor] | None = None, need: Tensor | None = None,
) -> Ascended:  # fmt: skip
    """Raise lower bounds of linear functions of nodes.

    Parameters
    ----------
    outputs : mapping of int to Tensor
        Coefficients (S, B, *shape) of nodes.
    start : mapping or None
        Slopes to begin with, (S, B, *shape).
    signs : mapping or None
        Of each ReLU (B, *shape): +1 where its input is taken to be below zero, -1 above, 0 where neither.
    need : Tensor or None
        (S, B): bounds that are enough; where all are reached the ascent ends.
    """
    rough = single(found)
    wanted = {at: a.float() for at, a in outputs.items()}
    free = _slopes(rough, wanted, start)
    direction = {at: s.float() for at, s in (signs or {}).items()}
    held = {
        at: s.new_zeros(s.shape).expand(free_shape(wanted), *s.shape).clone().requires_grad_()
        for at, s in direction.items()
    }
    slopes, multipliers = _ascent(rough, wanted, free, held, direction, steps, need) if free or held else ({}, {})
    chosen = {at: a.double() for at, a in slopes.items()}
    forces = {at: b.double() * direction[at].double() for at, b in multipliers.items()}
    a, bias = backward(found.graph, found.inner, outputs, chosen or None, forces or None)
    return Ascended(found.region.lower(a, bias), a, slopes, forces)


def free_shape(wanted: Mapping[int, Tensor]) -> int:
    """Return how many functions there are."""
    return len(next(iter(wanted.values())))


def _ascent(
    rough: Bounded, wanted: Mapping[int, Tensor], free: dict[int, Tensor], held: dict[int, Tensor],
    direction: Mapping[int, Tensor], steps: int, need: Tensor | None,
) -> tuple[dict[int, Tensor], dict[int, Tensor]]:  # fmt: skip
    """Return the slopes and multipliers of the best bounds."""
    parameters = [*free.values(), *held.values()]
    optimiser = torch.optim.Adam(parameters, lr=RATE, betas=(0.5, 0.9))
    schedule = torch.optim.lr_scheduler.ExponentialLR(optimiser, DECAY)
    best = torch.full(next(iter(wanted.values())).shape[:2], -torch.inf, device=parameters[0].device)
    kept: tuple[dict[int, Tensor], dict[int, Tensor]] = {}, {}
    for step in range(steps + 1):
        with torch.enable_grad():
            forces = {at: b * direction[at] for at, b in held.items()}
            value = rough.region.lower(*backward(rough.graph, rough.inner, wanted, free, forces or None))
            loss = -value.sum()
        better = value.detach() > best
        kept = _kept(better, free, kept[0]), _kept(better, held, kept[1])
        best = torch.where(better, value.detach(), best)
        if step == steps or (need is not None and bool((best > need).all())):
            break
        optimiser.zero_grad(set_to_none=True)
        torch.autograd.backward(loss, inputs=parameters)
        optimiser.step()
        schedule.step()
        with torch.no_grad():
            for one in free.values():
                one.clamp_(0, 1)
            for one in held.values():
                one.clamp_min_(0)
    return kept


def _kept(better: Tensor, new: Mapping[int, Tensor], old: Mapping[int, Tensor]) -> dict[int, Tensor]:
    """Return the parameters of the better bounds, (S, B, *shape) each."""
    if not old:
        return {at: one.detach().clone() for at, one in new.items()}
    return {
        at: torch.where(better.view(*better.shape, *[1] * (one.dim() - 2)), one.detach(), old[at])
        for at, one in new.items()
    }


def _slopes(rough: Bounded, wanted: Mapping[int, Tensor], start: Slopes | None) -> dict[int, Tensor]:
    """Return free slopes of every ReLU below the bounded nodes that has an open input."""
    shape = next(iter(wanted.values())).shape[:2]
    free = {}
    for at in sorted(rough.graph.behind(wanted) & rough.inner.keys()):
        low, high = rough.inner[at]
        if isinstance(rough.graph.nodes[at].operation, Relu) and bool(((low < 0) & (high > 0)).any()):
            begun = start[at].float() if start and at in start else (high > -low).float().expand(*shape, *low.shape[1:])
            free[at] = begun.clone().requires_grad_()
    return free


def single(found: Bounded) -> Bounded:
    """Return float32 bounds a little wider, which guide the ascent and prove nothing."""
    inner = {at: (low.float(), high.float()) for at, (low, high) in found.inner.items()}
    return Bounded(found.graph.to(torch.float32), found.region.to(torch.float32), inner)


def of_inner_layers(steps: int) -> Any:
    """Return what :func:`robustkit.certify.bounds.bound` takes to optimise the bounds of inner layers, small ones."""

    def optimise(found: Bounded, node: int, a: Tensor) -> Tensor:
        before = sum(elements(one.shape) for one in found.graph.nodes[:node])
        if elements(found.graph.nodes[node].shape) * before > FREE:
            return found.lower({node: a})
        return torch.maximum(found.lower({node: a}), ascend(found, {node: a}, steps).value)

    return optimise
