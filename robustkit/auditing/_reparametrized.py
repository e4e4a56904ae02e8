"""Weights that are kept as what they are computed from: weight norm, spectral norm, pruning, old notation and new."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import torch
from torch import Tensor

State = dict[str, Tensor]
NEW = ".parametrizations."  # torch.nn.utils.parametrize: LAYER.parametrizations.weight.original ...


def folded(state: Mapping[str, Tensor]) -> tuple[State, list[str]]:
    """Return the state with every such weight computed, as in eval mode, and a note on what was computed.

    * weight norm: w = g v / |v|, the norm over all axes but those along which g has a length
      (``weight_g, weight_v`` or ``parametrizations.weight.original0, original1``);
    * spectral norm: w = v / (u^T V v), V the weight as a matrix (``weight_orig, weight_u, weight_v`` or
      ``parametrizations.weight.original, 0._u, 0._v``);
    * pruning: w = v * mask (``weight_orig, weight_mask``).
    """
    done, counts = dict(state), dict[str, int]()
    for name in state:
        for kind, ending, rest, compute in _KINDS:
            if not name.endswith(ending):
                continue
            stem = name[: -len(ending)]
            parts = [stem + other for other in rest]
            if not all(part in state for part in parts):
                continue
            given = [state[part] for part in (name, *parts)]
            value = compute(*given) if all(one.is_floating_point() for one in given) else None
            if value is None or not bool(value.isfinite().all()):  # a row of zeros has no direction
                continue
            for part in (name, *parts):
                done.pop(part, None)
            done[stem.replace(NEW, ".").removeprefix(NEW[1:])] = value
            counts[kind] = counts.get(kind, 0) + 1
    order = {name: index for index, name in enumerate(state)}
    made = sorted(done, key=lambda name: _place(name, order))
    notes = [f"{kind} of {count} weights was computed into them" for kind, count in counts.items()]
    return {name: done[name] for name in made}, notes


def _place(name: str, order: Mapping[str, int]) -> float:
    """Return where a tensor stood in the file; a computed one with what it was computed from."""
    if name in order:
        return order[name]
    layer, _, leaf = name.rpartition(".")
    own = [layer + NEW + leaf + "."] if layer else [NEW[1:] + leaf + "."]
    return min(place for known, place in order.items() if known.startswith((f"{name}_", *own))) - 0.5


def _weight_norm(g: Tensor, v: Tensor) -> Tensor | None:
    if g.ndim not in (0, v.ndim) or any(n not in (1, m) for n, m in zip(g.shape, v.shape, strict=False)):
        return None
    axes = [axis for axis in range(v.ndim) if not g.ndim or g.shape[axis] == 1]
    return g * v / v.square().sum(axes, keepdim=True).sqrt() if axes else None


def _spectral_norm(original: Tensor, u: Tensor, v: Tensor) -> Tensor | None:
    if u.ndim != 1 or v.ndim != 1 or u.numel() * v.numel() != original.numel():
        return None
    axes = [axis for axis in (0, 1) if axis < original.ndim and original.shape[axis] == u.numel()]
    sigmas = [torch.dot(u, original.movedim(axis, 0).flatten(1) @ v) for axis in axes]
    # u was made as V v of length one, so that along any other axis this is less
    return original / max(sigmas, key=float) if sigmas else None


def _pruned(original: Tensor, mask: Tensor) -> Tensor | None:
    return original * mask if original.shape == mask.shape else None


_Compute = Callable[..., "Tensor | None"]
_KINDS: tuple[tuple[str, str, tuple[str, ...], _Compute], ...] = (
    ("weight norm", "_g", ("_v",), _weight_norm),
    ("weight norm", ".original0", (".original1",), _weight_norm),
    ("spectral norm", "_orig", ("_u", "_v"), _spectral_norm),
    ("spectral norm", ".original", (".0._u", ".0._v"), _spectral_norm),
    ("pruning", "_orig", ("_mask",), _pruned),
)
