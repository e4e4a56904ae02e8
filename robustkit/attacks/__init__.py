"""Attacks: one file each, found by the registry; ``robustkit.attacks.get("pgd")(model, x, y, eps=8/255)``."""

from __future__ import annotations

from robustkit.registry import Registry

attack = Registry("attack", "robustkit.attacks")
get = attack.get

# Parameters that an evaluation decides for every attack alike, and what decides them.
OWN_OPTION = {"eps": "--eps", "norm": "--norm", "targeted": "--targeted", "stop_early": "the suite"}


def is_minimum(name: str) -> bool:
    """Return whether an attack looks for the smallest perturbation instead of keeping to a given budget."""
    return attack.entry(name).facts.get("budget") == "minimum"


def norm_for(name: str, wanted: str) -> str:
    """Return the norm in which an attack works: the one wanted if it supports it, else its first."""
    norms: tuple[str, ...] = attack.entry(name).facts["norms"]
    return wanted if wanted in norms else norms[0]
