"""Attacks: one file each, found by the registry; ``robustkit.attacks.get("pgd")(model, x, y, eps=8/255)``."""

from __future__ import annotations

from robustkit.registry import Registry

attack = Registry("attack", "robustkit.attacks")
get = attack.get
