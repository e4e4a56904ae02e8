"""What lies in one state dict around a network: wrappers' prefixes, averages, members, a normaliser, a loss."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from torch import Tensor, nn

from robustkit.auditing._limits import NESTING, clean
from robustkit.auditing._tensors import TensorRef

State = dict[str, TensorRef | Tensor]
PREFIXES = ("module", "_orig_mod", "backbone", "model", "net", "network")  # stripped whatever is behind them
LISTED = re.compile(
    r"(?:(?:models|members|nets|networks|classifiers|ensemble|estimators_?)\.|(?:model|member|net|network)_?)(\d{1,3})\."
)
AVERAGED = re.compile(r"(?:^|[_.])(?:ema|swa|avg|averaged?|polyak|shadow|teacher)(?:[_.]|$)|^ema|ema$", re.IGNORECASE)
COUNTERS = frozenset({"n_averaged", "initted", "num_updates", "decay", "step"})  # of averaging, one number each
FOREIGN = re.compile(
    r"(?:^|_)(?:loss|losses|loss_fn|criterion|criteria|metrics?|acc|accuracy|auroc|confmat)(?:_|$|\d)", re.IGNORECASE
)
MEANS = ("mean", "mu", "new_mean", "means", "pixel_mean", "image_mean", "_mean", "norm_mean")
STDS = ("std", "sigma", "new_std", "stds", "pixel_std", "image_std", "_std", "norm_std", "sd")
VERSIONS = 8  # of one network's weights, at most
CHANNELS = 4  # at most, of a normaliser
BUFFERS = ("running_mean", "running_var", "num_batches_tracked")


@dataclass
class Part:
    """One network's weights as declared, or a network; where in the file it lies, what was noticed.

    The file's own name of ``state[name]`` is ``prefix + name``. ``aside`` holds, by the file's names, what is no weight
    of the network: a loss's tensors, a normaliser's, of which ``normalizer`` names mean and deviation. ``version`` is
    what these weights are called where a file holds several versions of them; the ``others`` are the further versions.
    ``extras`` are what modules keep beside tensors (``get_extra_state``), by the file's names.
    """

    where: str
    state: State | None
    module: nn.Module | None = None
    index: int | None = None
    notes: list[str] = field(default_factory=list)
    prefix: str = ""
    aside: State = field(default_factory=dict)
    normalizer: tuple[str, str] | None = None
    version: str = ""
    averaged: bool = False
    extras: dict[str, object] = field(default_factory=dict)
    others: list[Part] = field(default_factory=list)


def peel(part: Part, *, lightning: bool = False) -> list[Part]:
    """Return the networks in one state dict without what is around them: prefixes first, then members and averages."""
    if part.state is None:
        return [part]
    for _ in range(2 * NESTING):
        _set_aside(part)
        if members := _members(part):
            return [piece for member in members for piece in peel(member, lightning=lightning)]
        if _take_averages(part, lightning):
            break
        if not _strip(part) and not (lightning and not part.prefix and _main(part)):
            break
    if part.prefix:
        part.notes.append(f"the prefix '{part.prefix}' was stripped from every key")
        part.where = f"{part.where or 'top level'}, prefix {part.prefix}"
    if part.aside:
        part.notes.append(f"{len(part.aside)} tensors that are no weights were set aside ({first(list(part.aside))})")
    return [part]


def _shape(value: TensorRef | Tensor) -> tuple[int, ...]:
    return tuple(value.size) if isinstance(value, TensorRef) else tuple(value.shape)


def shapes_of(part: Part) -> dict[str, tuple[int, ...]]:
    """Return names and shapes of a part's weights."""
    state: Mapping[str, TensorRef | Tensor] = part.state or (part.module.state_dict() if part.module else {})
    return {name: _shape(value) for name, value in state.items() if isinstance(value, TensorRef | Tensor)}


def _numel(value: TensorRef | Tensor) -> int:
    return value.numel if isinstance(value, TensorRef) else value.numel()


def _move_aside(part: Part, names: Iterable[str]) -> None:
    state = part.state or {}
    for name in list(names):
        part.aside[part.prefix + name] = state.pop(name)


def _set_aside(part: Part) -> None:
    """Set aside what belongs to a loss, a metric, an average's counters or a normaliser, unless nothing is left."""
    state = part.state = dict(part.state or {})
    foreign = [name for name in state if "." in name and FOREIGN.search(name.partition(".")[0])]
    if len(foreign) < len(state):
        _move_aside(part, foreign)
    counters = [name for name in COUNTERS if name in state and _numel(state[name]) == 1]
    if {"n_averaged", "initted"} & set(counters) or len(counters) > 1:
        part.averaged = True
        _move_aside(part, counters)
    pairs = [pair for name in state if (pair := _normalizer(state, name))]
    if not pairs or 2 * len(pairs) >= len(state):
        return
    if part.normalizer is None:  # the outermost, of several
        mean, std = min(pairs, key=lambda pair: pair[0].count("."))
        part.normalizer = part.prefix + mean, part.prefix + std
    _move_aside(part, [name for pair in pairs for name in pair])


def _normalizer(state: State, mean: str) -> tuple[str, str] | None:
    """Return the names of a mean and of the deviation beside it, one number for each channel or for all, or None."""
    parent, _, leaf = mean.rpartition(".")
    if leaf not in MEANS or _numel(state[mean]) > CHANNELS:
        return None
    beside = [f"{parent}.{other}" if parent else other for other in STDS]
    std = next((name for name in beside if name in state), "")
    return (mean, std) if std and _numel(state[std]) in (1, _numel(state[mean])) else None


def _strip(part: Part) -> bool:
    """Strip one word that all names begin with; of an unknown one, two layers have to be left."""
    state = part.state or {}
    words = {name.partition(".")[0] if "." in name else "" for name in state}
    word = words.pop() if len(words) == 1 else ""
    if not word:
        return False
    below = {name.removeprefix(f"{word}."): value for name, value in state.items()}
    if word not in PREFIXES and len({name.rpartition(".")[0] for name in below} - {""}) < 2:
        return False
    part.state, part.prefix = below, f"{part.prefix}{word}."
    return True


def _main(part: Part) -> bool:
    """Strip the one known prefix of a Lightning module, whatever lies beside it; return whether there is one."""
    state = part.state or {}
    held = [word for word in PREFIXES if sum(name.startswith(f"{word}.") for name in state) > 1]
    if len(held) != 1:
        return False
    _move_aside(part, [name for name in state if not name.startswith(f"{held[0]}.")])
    return _strip(part)


def _members(part: Part) -> list[Part]:
    """Return the networks of a ModuleList (``members.0.conv1.weight``), or of a bare list of equal ones, else []."""
    state = part.state or {}
    groups: dict[int, State] = {}
    listed = [LISTED.match(name) for name in state]
    bare = [] if all(listed) else [re.match(r"(\d{1,3})\.", name) for name in state]
    for (name, value), match in zip(state.items(), listed if all(listed) else bare, strict=True):
        if not match:
            return []
        groups.setdefault(int(match[1]), {})[name[match.end() :]] = value
    if not groups or (not all(listed) and not _whole_networks(list(groups.values()))):
        return []
    notes = [*part.notes, f"{len(groups)} networks lie in one state dict"]
    above = f"{part.where or 'top level'}, prefix {part.prefix}" if part.prefix else part.where
    if part.aside:
        notes.append(f"{len(part.aside)} tensors that are no weights were set aside ({first(list(part.aside))})")
    normalizer = {name: part.aside[name] for name in part.normalizer or ()}
    return [
        Part(above, group, None, number, list(notes), aside=dict(normalizer), normalizer=part.normalizer)
        for number, group in sorted(groups.items())
    ]


def _whole_networks(groups: Sequence[State]) -> bool:
    """Return whether these have the same names and shapes, and a convolution and a linear layer each."""
    known = [{name: _shape(value) for name, value in group.items()} for group in groups]
    ranks = {len(shape) for shape in known[0].values()}
    return len(groups) > 1 and all(one == known[0] for one in known) and {2, 4} <= ranks


def _take_averages(part: Part, lightning: bool) -> bool:
    """Take the averages of the other weights (``ema.*`` beside ``model.*``) out as versions; return whether any are."""
    state = part.state or {}
    words = sorted({name.partition(".")[0] for name in state if "." in name})
    words = [word for word in words if AVERAGED.search(word)]
    rest = {name: value for name, value in state.items() if name.partition(".")[0] not in words}
    if not words or not rest or len(words) > VERSIONS:
        return False
    found = peel(Part("", dict(rest)), lightning=lightning)
    if len(found) != 1:
        return False
    raw, others = found[0], []
    for word in words:
        group = {name.removeprefix(f"{word}."): value for name, value in state.items() if name.startswith(f"{word}.")}
        [average, *more] = peel(Part(part.where, group))
        if more or not complete(average, raw):
            return False
        average.version, average.averaged = word, True
        others.append(average)
    part.version = raw.prefix.removesuffix(".").rpartition(".")[2] or "the rest"
    part.aside.update({part.prefix + name: value for name, value in raw.aside.items()})
    part.state, part.prefix, part.others = raw.state, part.prefix + raw.prefix, others
    part.normalizer = part.normalizer or raw.normalizer
    return True


def complete(average: Part, raw: Part) -> bool:
    """Return whether these are an average of the raw weights; where it lacks buffers, the raw ones are put in.

    Averages are kept under the network's names, under these without dots, or of the parameters alone.
    """
    if average.module is not None or raw.module is not None:
        return shapes_of(average) == shapes_of(raw)
    held, known = average.state or {}, raw.state or {}
    dotless = {name.replace(".", ""): name for name in known}
    if not set(held) <= set(known) and set(held) <= set(dotless):
        held = {dotless[name]: value for name, value in held.items()}
    lacking = [name for name in known if name not in held]
    buffers = all(name.rpartition(".")[2] in BUFFERS for name in lacking)
    if not held or not buffers or any(name not in known or _shape(known[name]) != _shape(held[name]) for name in held):
        return False
    if any(not name.endswith("num_batches_tracked") for name in lacking):
        average.notes.append(f"{len(lacking)} buffers are those of the raw weights, as the average has none")
    average.state = {name: held.get(name, value) for name, value in known.items()}
    return True


def positional(values: Sequence[TensorRef | Tensor], raw: Part) -> Part | None:
    """Return an average that is kept as a list of the parameters, in the order of the raw weights, or None."""
    names = [name for name in raw.state or {} if name.rpartition(".")[2] not in BUFFERS]
    if len(names) != len(values):
        return None
    average = Part(raw.where, dict(zip(names, values, strict=True)))
    return average if complete(average, raw) else None


def first(keys: Sequence[object], count: int = 3) -> str:
    """Return the first few of a file's keys as text."""
    return ", ".join(clean(key, 40) for key in keys[:count]) + (", ..." if len(keys) > count else "")
