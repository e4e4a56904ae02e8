"""Weights that autocast would cast to bfloat16 in every pass, cast once: it remembers only those that are trained."""

from __future__ import annotations

import copy
from collections.abc import Iterator

import torch
from torch import nn
from torch.nn.utils import parametrize

# What autocast computes in bfloat16, all arguments of it. A subclass may compute with its weights before.
CAST = (nn.Conv1d, nn.Conv2d, nn.Conv3d, nn.Linear)


def cast_once(model: nn.Module) -> nn.Module:
    """Return a copy whose convolutions and linear layers have their frozen weights in bfloat16.

    Under ``torch.autocast`` it gives what the model gives there, bit by bit; half of the memory and of the launches of
    the casts is saved.
    """
    made = copy.deepcopy(model)
    for _, layer in layers(made):
        layer.to(torch.bfloat16)
    return made


def layers(model: nn.Module) -> Iterator[tuple[str, nn.Module]]:
    """Yield the layers whose weights are used by autocast's own functions alone, with their names."""
    for name, layer in model.named_modules():
        frozen = not any(p.requires_grad for p in layer.parameters())
        if type(layer) in CAST and frozen and not parametrize.is_parametrized(layer) and not layer._forward_pre_hooks:
            yield name, layer
