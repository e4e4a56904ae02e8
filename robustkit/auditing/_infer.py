"""Which architecture do these names and shapes belong to? References are built without memory, and few of them."""

from __future__ import annotations

import itertools
import math
import warnings
from collections.abc import Callable, Container, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any

import torch
from torch.overrides import TorchFunctionMode

from robustkit import models
from robustkit.models import _timm

Shapes = dict[str, tuple[int, ...]]
CLASSES = 1013  # a prime that no layer has, so that its places are where the number of classes goes
EXTRA = "_extra_state"
COUNTED = ".num_batches_tracked"  # files from before PyTorch 0.4.1 lack it, and it changes no output in eval mode
HEADS = ("fc", "linear", "classifier", "head", "heads", "output", "logits")
DRAWN = frozenset({"normal_", "uniform_", "fill_", "zero_", "mul_", "add_", "clamp_", "erfinv_", "copy_"})
BUFFERS = ("running_mean", "running_var", "num_batches_tracked", "relative_position_index", "relative_coords_table")
NEAR = 0.1  # an architecture whose number of weights differs by more is not looked at
BUILT = 14  # at most so many of torchvision's are built for one file


@dataclass(frozen=True)
class Match:
    """An architecture whose weights these are; ``names`` maps its names to the file's where they differ."""

    arch: str
    params: Mapping[str, Any]
    classes: int
    channels: int
    names: Mapping[str, str]
    rule: str = ""
    notes: tuple[str, ...] = field(default=())


class _Other(Exception):  # noqa: N818 - it ends a build early, nothing failed
    pass


class WithoutData(TorchFunctionMode):
    """Parameters on the meta device; small computed tensors (which RegNet reads back) stay real.

    With ``kernels``, the first convolution of another (outputs, height, width) ends the build with :class:`_Other`.
    """

    def __init__(self, kernels: Container[tuple[int, ...]] | None = None) -> None:
        super().__init__()
        self.kernels = kernels

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        if func in (torch.empty, torch.zeros, torch.ones, torch.randn, torch.rand) and not kwargs.get("device"):
            kwargs = {**kwargs, "device": "meta"}
        target = args[0] if args else kwargs.get("tensor")
        if getattr(func, "__name__", "") in DRAWN and isinstance(target, torch.Tensor) and target.is_meta:
            return target  # there is nothing to fill, and torch would import its compiler to say so (8 s)
        made = func(*args, **kwargs)
        if (
            self.kernels is not None
            and func is torch.empty
            and made.ndim == 4
            and _kernel(made.shape) not in self.kernels
        ):
            raise _Other
        return made


def declared(arch: str, channels: int, classes: int, params: Mapping[str, Any]) -> Shapes:
    """Return the names and shapes of an architecture's weights, built without memory or random numbers.

    Parameters
    ----------
    arch : str
        A name that :func:`robustkit.models.build` takes and that runs no code of the user's.
    """
    known = tuple(sorted(params.items()))
    try:
        return dict(_declared(arch, channels, classes, known))
    except TypeError:  # a list among the parameters cannot be remembered
        return _declared.__wrapped__(arch, channels, classes, known)


@lru_cache(maxsize=256)
def _declared(arch: str, channels: int, classes: int, params: tuple[tuple[str, Any], ...]) -> Shapes:
    return _built(arch, channels, classes, dict(params), WithoutData())


def _built(arch: str, channels: int, classes: int, params: Mapping[str, Any], mode: WithoutData) -> Shapes:
    with warnings.catch_warnings(), torch.random.fork_rng(devices=[]), mode:
        warnings.simplefilter("ignore")
        network = models.build(arch, channels, classes, params)
    return shapes(network.state_dict())


def _kernel(shape: Sequence[int]) -> tuple[int, ...]:
    return (shape[0], *shape[2:])


def shapes(state: Mapping[str, Any]) -> Shapes:
    """Return names and shapes in the order of the file; what modules keep beside weights is not compared."""
    return {name: tuple(value.shape) for name, value in state.items() if not name.endswith(EXTRA)}


def stem(known: Shapes) -> str:
    """Return the name of the first convolution's weight, or ""."""
    return next((name for name, shape in known.items() if len(shape) == 4 and name.endswith("weight")), "")


def head(known: Shapes) -> str:
    """Return the name of the last layer's weight, or "": by its name, as safetensors are sorted, else by its place."""
    last = [n for n, s in known.items() if n.endswith("weight") and (len(s) == 2 or s[2:] == (1, 1))]
    named = [n for n in last if any(word in n.split(".") for word in HEADS)]
    if named:
        return max(named, key=lambda n: [int(w) if w.isdigit() else -1 for w in n.split(".")])
    flat = [n for n in last if len(known[n]) == 2]
    return (flat or last or [""])[-1]


def exact(held: Shapes, reference: Shapes) -> tuple[int, int] | None:
    """Return (classes, channels) where held is the reference with :data:`CLASSES` and channels filled in, or None."""
    if set(_counting(held)) != set(_counting(reference)):
        return None
    classes: set[int] = set()
    channels, first = 3, stem(reference)
    for name, expected in _counting(reference).items():
        shape = held[name]
        if len(shape) != len(expected):
            return None
        if name == first:
            channels, shape = shape[1], (shape[0], expected[1], *shape[2:])
        for n, m in zip(shape, expected, strict=True):
            if m == CLASSES:
                classes.add(n)
            elif n != m:
                return None
    return (classes.pop(), channels) if len(classes) == 1 else None


def aligned(
    held: Shapes, reference: Shapes, agree: Callable[[Shapes, Shapes], object] = exact
) -> tuple[dict[str, str], str] | None:
    """Return how the reference's names map to the file's where only names differ, and the rule, or None.

    In turn: the same names below a prefix; a one-to-one exchange of words in the names (``linear`` for ``fc``,
    ``shortcut`` for ``downsample``), which needs no order; the same layers in the same order, unless sorted.
    """
    ours, theirs = _counting(reference), _counting(held)
    if len(ours) != len(theirs):
        return None
    for mapping, rule in _renamings(ours, theirs):
        if agree({name: theirs[other] for name, other in mapping.items()}, ours):
            return mapping, rule
    return None


def _renamings(ours: Shapes, theirs: Shapes) -> Iterator[tuple[dict[str, str], str]]:
    prefix, other = _common_prefix(ours), _common_prefix(theirs)
    if (prefix or other) and {n.removeprefix(prefix) for n in ours} == {n.removeprefix(other) for n in theirs}:
        yield {name: other + name.removeprefix(prefix) for name in ours}, f"prefix '{other}' for '{prefix}'"
    words, others = ({w for n in names for w in n.split(".")} for names in (ours, theirs))
    missing, extra = sorted(words - others), sorted(others - words)
    if len(missing) == len(extra) <= 4:
        for order in itertools.permutations(extra):
            table = dict(zip(missing, order, strict=True))
            mapping = {name: ".".join(table.get(word, word) for word in name.split(".")) for name in ours}
            if set(mapping.values()) == set(theirs):
                yield mapping, ", ".join(f"{b} -> {a}" for a, b in table.items())
    groups, their_groups = _layers(ours), _layers(theirs)
    if len(groups) == len(their_groups) and not _is_sorted(theirs):
        mapping = {}
        for (layer, leaves), (their_layer, their_leaves) in zip(groups, their_groups, strict=True):
            if set(leaves) != set(their_leaves):
                return
            mapping.update({_join(layer, leaf): _join(their_layer, leaf) for leaf in leaves})
        yield mapping, "the same layers in the same order"


def _layers(known: Shapes) -> list[tuple[str, list[str]]]:
    grouped: dict[str, list[str]] = {}
    for name in known:
        layer, _, leaf = name.rpartition(".")
        grouped.setdefault(layer, []).append(leaf)
    return list(grouped.items())


def _is_sorted(known: Shapes) -> bool:
    """Return whether a bias comes before its weight: alphabetical order, as in safetensors, hides the layers' own."""
    place = {name: index for index, name in enumerate(known)}
    return any(
        place.get(name.removesuffix("bias") + "weight", -1) > place[name] for name in known if name.endswith("bias")
    )


def _join(layer: str, leaf: str) -> str:
    return f"{layer}.{leaf}" if layer else leaf


def _common_prefix(known: Shapes) -> str:
    prefix = ""
    firsts = [name.split(".") for name in known]
    for words in zip(*(parts[:-1] for parts in firsts), strict=False):
        if len(set(words)) > 1:
            break
        prefix += words[0] + "."
    return prefix


def _counting(known: Shapes) -> Shapes:
    return {name: shape for name, shape in known.items() if not f".{name}".endswith(COUNTED)}


def references(held: Shapes) -> Iterator[tuple[str, dict[str, Any], Shapes]]:
    """Yield (arch, params, shapes) of every architecture worth a comparison: robustkit's, and torchvision's by size."""
    for name in models.model.names():
        yield name, {}, declared(name, 3, CLASSES, {})
    auxiliary = any("aux" in name.lower() for name in held)
    for name in _near_torchvision(held):
        params = {"aux_logits": auxiliary} if name in ("googlenet", "inception_v3") else {}
        yield name, params, declared(name, 3, CLASSES, params)


def _near_torchvision(held: Shapes) -> list[str]:
    """Return torchvision's names by how near their published number of weights comes to the file's, nearest first."""
    import torchvision

    from robustkit.models._torchvision import names

    count, text = _weights_at_1000(held), " ".join(held).lower()
    distance: dict[str, float] = {}
    for name in names():
        if name in ("googlenet", "inception_v3"):  # published without, or with, their auxiliary heads
            if "inception" in text or "mixed_" in text:
                distance[name] = 0.0
            continue
        published = [w.meta.get("num_params") for w in torchvision.models.get_model_weights(name)]
        known = [abs(count / n - 1) for n in published if n]
        if not known or min(known) < NEAR:
            distance[name] = min(known, default=0.0)
    return sorted(distance, key=lambda name: distance[name])[:BUILT]


def _weights_at_1000(held: Shapes) -> int:
    """Count the weights as if there were 1000 classes, as in torchvision's published counts."""
    total = sum(math.prod(shape) for name, shape in held.items() if name.rpartition(".")[2] not in BUFFERS)
    if last := head(held):
        shape = held[last]
        bias = last.removesuffix("weight") + "bias" in held
        total += (1000 - shape[0]) * (math.prod(shape[1:]) + bias)
    return total


def search(held: Shapes) -> list[Match]:
    """Return every architecture that fits by name and shape; where none does, those that fit but for the names.

    timm's are compared where no other fits: it has a copy of most of torchvision's.
    """
    same: list[Match] = []
    renamed: list[Match] = []
    for arch, params, reference in references(held):
        if sizes := exact(held, reference):
            same.append(Match(arch, params, *sizes, names={}))
        elif not same and (found := aligned(held, reference)):
            mapping, rule = found
            sizes = exact({name: held[other] for name, other in mapping.items()}, _counting(reference))
            if sizes:
                renamed.append(Match(arch, params, *sizes, names=mapping, rule=rule))
    return same or list(_of_timm(held)) or renamed


def _of_timm(held: Shapes) -> Iterator[Match]:
    """Yield timm's architectures that fit; built are only those whose first and last layers have these names.

    There are up to 300 of them, so that a build ends at the first convolution that the file has not.
    """
    kernels = {(CLASSES, 1, 1), *(_kernel(shape) for shape in held.values() if len(shape) == 4)}
    for name, layers in _timm.ends() if _timm.installed() else ():
        if not layers or any(f"{layer}.weight" not in held for layer in layers):
            continue
        arch = f"{models.TIMM}{name}"
        try:
            reference = _built(arch, 3, CLASSES, {}, WithoutData(kernels))
        except Exception:  # noqa: BLE001 - a few cannot be built without memory, or need an input size
            continue
        if sizes := exact(held, reference):
            yield Match(arch, {}, *sizes, names={})
