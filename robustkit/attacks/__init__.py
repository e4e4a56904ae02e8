"""Attacks: one file each, found by the registry; ``get("pgd")(model, x, y, eps=8/255)``.

An attack is one function of a callable model, images and labels, and its keyword-only arguments are its whole
configuration. It knows nothing of devices, files or stores, and its word is not taken for its success:
:mod:`robustkit.evaluation` checks the images and scores them again. A new attack is one new file, and the conformance
suite tests it without being told.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from robustkit.backends import find
from robustkit.base.registry import Entry, Registry
from robustkit.records.cells import Spec


class AttackRegistry(Registry):
    """The registry of attacks; ``library:Name`` is an attack of another library (``robustkit.backends``)."""

    def entry(self, name: str) -> Entry:
        """Return what is known of ``name``; imports the library that ``library:Name`` names."""
        return find(name).entry if ":" in name else super().entry(name)

    def get(self, name: str) -> Callable[..., Any]:
        """Return the attack; a :class:`UserError` suggests the nearest name, or says what is not installed."""
        return find(name).function if ":" in name else super().get(name)


attack = AttackRegistry("attack", "robustkit.attacks")


def get(name: str) -> Callable[..., Any]:
    """Return the attack, ``function(model, x, y, **parameters)``, behind the checks of the command.

    Raises
    ------
    UserError
        If no attack has that name (the nearest is suggested), or its library is not installed. The function raises one
        for images that are not float (B, C, H, W) in [0, 1], labels that are no classes of the model, a model that does
        not answer with logits (B, L), and parameters that the attack does not have or that are out of range.
    """
    from robustkit.attacks._checked import checked

    return checked(attack.entry(name), attack.get(name))


# Parameters that an evaluation decides for every attack alike, and what decides them.
OWN_OPTION = {"eps": "--eps", "norm": "--norm", "targeted": "--targeted", "stop_early": "the suite"}


def spec(name: str, **params: Any) -> Spec:
    """Return an attack with its whole configuration: its defaults, and what is said here."""
    defaults = {k: v for k, v in attack.entry(name).defaults().items() if k not in OWN_OPTION}
    return Spec("attack", name, {**defaults, **params})


def is_minimum(name: str) -> bool:
    """Return whether an attack looks for the smallest perturbation instead of keeping to a given budget."""
    return attack.entry(name).facts.get("budget") == "minimum"


def works_in(name: str, norm: str) -> bool:
    """Return whether an attack works in a norm."""
    return norm in attack.entry(name).facts["norms"]


def available(names: Sequence[str], norm: str) -> tuple[str, ...]:
    """Return those of some attacks that are registered and work in a norm, in their order."""
    return tuple(name for name in names if name in attack and works_in(name, norm))


def norm_for(name: str, wanted: str) -> str:
    """Return the norm in which an attack works: the one wanted if it supports it, else its first."""
    norms: tuple[str, ...] = attack.entry(name).facts["norms"]
    return wanted if wanted in norms else norms[0]
