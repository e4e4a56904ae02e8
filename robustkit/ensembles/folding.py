"""Batch norm folded into the convolution or linear layer before it, for any module, proven on real images.

Which batch norm follows which layer is observed in a forward pass, not traced symbolically: ``torch.fx`` patches
``nn.Module.__call__`` for the whole process while it traces, which breaks attacks that run in other threads, and it
cannot trace every module.
"""

from __future__ import annotations

import copy
from collections import Counter

import torch
from torch import Tensor, nn
from torch.nn.utils.fusion import fuse_conv_bn_eval, fuse_linear_bn_eval

from robustkit.functional.precision import denormal, flush_denormals

TOLERANCE = 1e-4  # by which logits of an exact copy may differ, relative to the largest of them
LAYERS = (nn.Conv1d, nn.Conv2d, nn.Conv3d, nn.Linear)
NORMS = (nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d)
Pair = tuple[str, str]  # names of a layer and of the batch norm that follows it


def same_logits(before: Tensor, after: Tensor) -> bool:
    """Return whether logits (..., L) are equal but for rounding, and name the same labels."""
    return bool((before.argmax(-1) == after.argmax(-1)).all()) and close_logits(before, after)


def close_logits(before: Tensor, after: Tensor) -> bool:
    """Return whether logits (..., L) are equal but for rounding, which decides the label where two are the largest."""
    limit = TOLERANCE * float(before.abs().amax().clamp_min(1.0))
    return float((before - after).abs().max()) <= limit


@torch.no_grad()
def fold(member: nn.Module, x: Tensor) -> tuple[nn.Module, str]:
    """Return a copy of a member in eval mode without the batch norms that can be folded, and why others stay.

    Parameters
    ----------
    x : Tensor
        Images (B, C, H, W) on which the copy's logits are compared with the original's.
    """
    expected = member(x)
    if not same_logits(expected, member(x)):
        return copy.deepcopy(member), "its logits differ from pass to pass: see --eot"
    pairs = _pairs(member, x)
    folded = _without(member, pairs)
    if same_logits(expected, folded(x)):
        return folded, ""
    # A layer whose output goes elsewhere too must keep its batch norm: find out which do.
    sound = [pair for pair in pairs if same_logits(expected, _without(member, [pair])(x))]
    folded = _without(member, sound)
    if same_logits(expected, folded(x)):
        return folded, ""
    return copy.deepcopy(member), "its logits change"


@torch.no_grad()
def without_denormals(made: nn.Module, member: nn.Module, x: Tensor) -> nn.Module:
    """Return a copy of what was made of a member, its denormal weights zero; where there are none, itself.

    Itself, too, where a stranger's weights are of a type of their own, or such small ones count, or a copy shares them.
    """
    try:
        if not any(bool(denormal(p).any()) for p in made.parameters()):
            return made
        quick, theirs = copy.deepcopy(made), {p.data_ptr() for p in member.parameters()}
        if any(p.data_ptr() in theirs for p in quick.parameters()):
            return made
        flush_denormals(quick.parameters())
        return quick if same_logits(made(x), quick(x)) else made
    except Exception:  # noqa: BLE001 - whatever a stranger's module or tensor raises
        return made


def _pairs(member: nn.Module, x: Tensor) -> list[Pair]:
    """Return the layers that a batch norm directly follows, each of both being called once in a forward pass."""
    calls: Counter[str] = Counter()
    made: list[tuple[str, Tensor]] = []  # outputs are held, so that no two have the same identity
    found: list[Pair] = []

    def leaves(name: str, output: object) -> None:
        calls[name] += 1
        if isinstance(output, Tensor):
            made.append((name, output))

    def enters(name: str, given: tuple[object, ...]) -> None:
        calls[name] += 1
        found.extend((layer, name) for layer, output in made if given and output is given[0])

    hooks = []
    try:
        for name, module in member.named_modules():
            if isinstance(module, LAYERS):
                hooks.append(module.register_forward_hook(lambda _, __, output, name=name: leaves(name, output)))
            elif isinstance(module, NORMS) and module.track_running_stats:
                hooks.append(module.register_forward_pre_hook(lambda _, given, name=name: enters(name, given)))
        member(x[:1])
    finally:
        for hook in hooks:
            hook.remove()
    return [pair for pair in found if all(calls[name] == 1 for name in pair)]


def _without(member: nn.Module, pairs: list[Pair]) -> nn.Module:
    """Return a copy with these batch norms folded into their layers."""
    folded = copy.deepcopy(member).eval()
    for layer_name, norm_name in pairs:
        layer, norm = folded.get_submodule(layer_name), folded.get_submodule(norm_name)
        assert isinstance(norm, NORMS)
        if isinstance(layer, nn.Linear):
            fused: nn.Module = fuse_linear_bn_eval(layer, norm)
        else:
            fused = fuse_conv_bn_eval(layer, norm)  # type: ignore[type-var]
        folded.set_submodule(layer_name, fused)
        folded.set_submodule(norm_name, nn.Identity())
    return folded
