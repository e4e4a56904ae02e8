"""Defences: one file each, found by the registry; each turns member outputs into one scalar loss."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from robustkit.registry import Registry

if TYPE_CHECKING:
    from torch import Tensor

defense = Registry("defense", "robustkit.defenses")
get = defense.get


@dataclass(frozen=True)
class Outputs:
    """What a defence sees of one training batch: member logits (M, B, L) and labels (B,)."""

    logits: Tensor
    y: Tensor


@dataclass(frozen=True)
class Loss:
    """A scalar to minimise, and its detached parts by name, for the progress line and the history."""

    total: Tensor
    parts: dict[str, Tensor]
