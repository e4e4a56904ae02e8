"""What a file's tensors may mean as one network's weights, in the order in which it is tried."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from torch import Tensor

from robustkit.auditing import _huggingface
from robustkit.auditing._peel import first
from robustkit.auditing._reparametrized import folded
from robustkit.auditing.reading import ModelInFile


@dataclass(frozen=True)
class Variant:
    """Weights by name, the normaliser before them (or ""), and what was done to have them."""

    state: Mapping[str, Tensor]
    normalize: str
    notes: tuple[str, ...] = ()


def variants(found: ModelInFile) -> Iterator[Variant]:
    """Yield the weights without their wrapper; with it, for a network that has the same; with norms computed."""
    state = found.state or {}
    yield Variant(state, found.normalize)
    if found.prefix or found.aside:
        whole = {**{found.prefix + name: value for name, value in state.items()}, **found.aside}
        yield Variant(whole, "", ("the tensors around the network belong to it, too",) if found.aside else ())
    if (renamed := _huggingface.resnet(state)) is not None:
        yield Variant(renamed, found.normalize, ("the names are those of Hugging Face's transformers",))
    computed, notes = folded(state)
    if notes:
        yield Variant(computed, found.normalize, tuple(notes))


def inner(variant: Variant) -> Iterator[Variant]:
    """Yield the weights without what may be strangers: numbers and vectors at the top, all but one submodule."""
    state = variant.state
    alone = [name for name, value in state.items() if "." not in name and value.ndim <= 1]
    if alone and len(alone) < len(state):
        yield _without(variant, alone)
    words: dict[str, list[str]] = {}
    for name in state:
        words.setdefault(name.partition(".")[0], []).append(name)
    for word, names in words.items():
        layers = {name.rpartition(".")[0] for name in names}
        if len(layers) > 2 and len(state) > len(names) >= len(state) / 2:
            own = set(names)
            below = _without(variant, [name for name in state if name not in own])
            stripped = {name.removeprefix(f"{word}."): value for name, value in below.state.items()}
            yield Variant(stripped, below.normalize, below.notes)


def _without(variant: Variant, names: list[str]) -> Variant:
    dropped = set(names)
    left = {name: value for name, value in variant.state.items() if name not in dropped}
    note = f"{len(names)} tensors beside the network were set aside ({first(names, 5)})"
    return Variant(left, variant.normalize, (*variant.notes, note))
