"""Do these weights fit a named architecture, under its names or renamed? And what is it that they do not fit?"""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from robustkit import models
from robustkit.auditing import _explain
from robustkit.auditing._infer import (
    CLASSES,
    COUNTED,
    Match,
    Shapes,
    aligned,
    declared,
    exact,
    head,
    shapes,
    stem,
)  # fmt: skip
from robustkit.auditing._limits import clean
from robustkit.base.errors import UserError


@dataclass(frozen=True)
class Named:
    """An architecture that somebody named, its arguments, and the data's channels and classes where it needs them."""

    arch: str
    params: Mapping[str, Any]
    channels: int | None = None
    classes: int | None = None

    def expected(self, held: Shapes) -> Shapes:
        """Return the names and shapes that it has for the classes and channels of these weights."""
        if models.is_code(self.arch):
            channels, classes = self.channels or channels_of(held), self.classes or classes_of(held)
            classes = 1 if classes == 2 and classes_of(held) == 1 else classes  # one output for two classes
            return shapes(build(self.arch, channels, classes, self.params).state_dict())
        return filled(self._reference(), held, self.channels)

    def _reference(self) -> Shapes:
        models.check(self.arch)
        try:
            return declared(self.arch, 3, CLASSES, self.params)
        except UserError:
            raise
        except Exception as error:  # whatever a builder makes of arguments that it does not take
            why = f"{clean(dict(self.params), 200)} ({type(error).__name__}: {clean(error, 200)})"
            raise UserError(f"architecture '{self.arch}' does not take {why}; check --arch-args.") from None

    def match(self, held: Shapes) -> Match | None:
        """Return how these weights fit it, or None."""
        arch, params = self.arch, self.params
        if not models.is_code(arch):
            reference = self._reference()
            for mapping, rule in _mappings(held, reference):
                if sizes := exact({name: held[other] for name, other in mapping.items()}, _uncounted(reference)):
                    return Match(arch, params, *sizes, names=mapping if rule else {}, rule=rule)
        expected = self.expected(held)
        if not _explain.difference(held, expected):
            # The code's own order: tied weights, or a file sorted by name, need not end with the last layer.
            channels = channels_of(held) if stem(held) else self.channels or 3  # linear layers take any
            return Match(arch, params, classes_of(expected) or self.classes or 0, channels, names={})
        if models.is_code(arch) and (renamed := aligned(held, expected, lambda a, b: a == b)):
            return Match(arch, params, self.classes or 0, self.channels or 0, names=renamed[0], rule=renamed[1])
        return None


def _mappings(held: Shapes, reference: Shapes) -> list[tuple[dict[str, str], str]]:
    ours = _uncounted(reference)
    if set(ours) == set(_uncounted(held)):
        return [({name: name for name in ours}, "")]
    renamed = aligned(held, reference)
    return [renamed] if renamed else []


def _uncounted(known: Shapes) -> Shapes:
    return {name: shape for name, shape in known.items() if not f".{name}".endswith(COUNTED)}


def filled(reference: Shapes, held: Shapes, channels: int | None = None) -> Shapes:
    """Fill the numbers of classes and of channels into a reference: any would do, so that none is a difference."""
    first, classes = stem(reference), classes_of(held) or CLASSES
    done = {name: tuple(classes if n == CLASSES else n for n in shape) for name, shape in reference.items()}
    own = held.get(first, ())
    channels = channels or (own[1] if len(own) == 4 else None)
    if first and channels and done[first][1] == 3:
        out, _, *kernel = done[first]
        done[first] = (out, channels, *kernel)
    return done


def classes_of(held: Shapes) -> int:
    """Return how many classes the last layer has, 0 where there is none."""
    return held[head(held)][0] if head(held) else 0


def channels_of(held: Shapes) -> int:
    """Return how many channels the first convolution takes, 3 where there is none."""
    return held[stem(held)][1] if stem(held) else 3


def build(arch: str, channels: int, classes: int, params: Mapping[str, Any]) -> nn.Module:
    """Build a network with fresh weights that will be replaced, leaving the global random state as it was."""
    with warnings.catch_warnings(), torch.random.fork_rng(devices=[]):
        warnings.simplefilter("ignore")
        try:
            return models.build(arch, channels, classes, dict(params))
        except UserError:
            raise
        except Exception as error:  # the user's factory, or a builder with arguments that it does not take
            raise UserError(
                f"architecture '{arch}' could not be built with {clean(dict(params), 200)} "
                f"({type(error).__name__}: {clean(error, 200)}); check --arch and --arch-args."
            ) from None
