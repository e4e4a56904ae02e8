"""Find the network that a file's weights belong to, and load them into it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

from torch import Tensor, nn

from robustkit.auditing import _explain, _huggingface
from robustkit.auditing._chain import Chain, chains
from robustkit.auditing._infer import COUNTED, EXTRA, Match, Shapes, search, shapes
from robustkit.auditing._limits import clean
from robustkit.auditing._named import Named, build, filled
from robustkit.auditing._variants import Variant, inner, variants
from robustkit.auditing.reading import ModelInFile
from robustkit.base.errors import UserError
from robustkit.base.installing import install_command
from robustkit.models import _timm


@dataclass(frozen=True)
class Fitted:
    """A network with a file's weights in it.

    Attributes
    ----------
    network : nn.Module
        Images (B, C, H, W), normalised as it was trained, to outputs (B, L). In eval mode where it was built here, as
        saved where the file brought it along.
    arch : str
        As :func:`robustkit.models.build` takes it, or ``as in the file``.
    notes : tuple of str
        What was inferred or assumed.
    arch_args : mapping
        Keyword arguments of the builder.
    classes, channels : int or None
        As the weights say; None for a network that the file brought along.
    normalize : str
        Mean and deviation of a normaliser that the file has beside the network's weights, or "".
    ways : tuple of Chain
        Where a chain of layers was rebuilt: every way to run it that the shapes allow; the network is the first.
    """

    network: nn.Module
    arch: str
    notes: tuple[str, ...]
    arch_args: Mapping[str, Any] = field(default_factory=dict)
    classes: int | None = None
    channels: int | None = None
    normalize: str = ""
    ways: tuple[Chain, ...] = ()


Fits = TypeVar("Fits", "Fitted", Match)


def candidates(state: Mapping[str, Tensor]) -> list[tuple[str, dict[str, Any], str]]:
    """Return the architectures whose names and shapes a state dict has, as (arch, arch_args, why).

    Compared are robustkit's and torchvision's classifiers (by their number of weights first), and where none of them
    fits timm's (extra ``timm``), built without memory; the number of classes and of channels is taken from the state.
    Where no name fits, a one-to-one renaming is tried. What weights cannot show (strides, activations, pooling, option
    A shortcuts) is not compared.
    """
    return [(match.arch, dict(match.params), _why(match)) for match in search(shapes(state))]


def _why(match: Match) -> str:
    how = f"names map one to one ({match.rule})" if match.names else "every name and shape agrees"
    return f"{how}, {match.classes} classes, {match.channels} channels"


def fit(
    found: ModelInFile,
    *,
    arch: str | None = None,
    arch_args: Mapping[str, Any] | None = None,
    channels: int | None,
    classes: int | None,
    size: tuple[int, int] | None = None,
) -> Fitted:
    """Return the network of one :class:`~robustkit.auditing.reading.ModelInFile`.

    Parameters
    ----------
    arch : str or None
        A name that :func:`robustkit.models.build` takes, ``module:factory`` or ``path/to/file.py:factory`` (whose code
        is run because it is named here); None infers it from the weights.
    arch_args : mapping or None
        Keyword arguments of the builder.
    channels, classes : int or None
        Of the data; None takes the file's.
    size : (int, int) or None
        Height and width of the images: a plain chain of layers is rebuilt for them; None: it is not.

    Raises
    ------
    UserError
        If none or several architectures fit, or the weights do not fit the one that is named: the keys that differ,
        and what would explain it.
    """
    if found.module is not None:
        unused = (f"--arch {arch} was not needed",) if arch not in (None, found.says.get("arch")) else ()
        return Fitted(found.module, "as in the file", ("the network lies in the file", *unused))
    if not found.state:
        raise UserError(f"'{_name(found)}' holds no weights; name a file with a state dict or a whole network.")
    if arch is None:
        if arch_args:
            raise UserError("--arch-args were given without --arch; name the architecture that takes them.")
        inferred = _infer(found)
        if inferred is None:
            return _checked(found, _rebuilt(found, size), channels, classes)
        match, used = inferred
        why = f"{match.arch} was inferred: {_why(match)}"
    else:
        match, used = _named(found, Named(arch, dict(arch_args or {}), channels, classes))
        why = f"{arch} as named"
    _checked(found, match, channels, classes)
    return _loaded(found, match, used, why)


def _checked(found: ModelInFile, fits: Fits, channels: int | None, classes: int | None) -> Fits:
    """Return a match or a network unless it is for other classes or channels than the data have."""
    for what, ours, theirs in (("classes", classes, fits.classes), ("channels", channels, fits.channels)):
        if ours is not None and ours != theirs and (what, ours, theirs) != ("classes", 2, 1):
            raise UserError(
                f"'{_name(found)}' is {fits.arch} for {theirs} {what} and the data have {ours}; "
                f"name a dataset with {theirs} {what} or another file."
            )
    return fits


def _rebuilt(found: ModelInFile, size: tuple[int, int] | None) -> Fitted:
    """Return a network that is made for these weights: transformers' ViT, or a chain of layers."""
    states = [one for one in variants(found) if one.normalize == found.normalize]
    for used in states:
        if made := _huggingface.vit(used.state, Path(found.path).parent if found.path else None):
            network, classes, channels, note = made
            notes = (*used.notes, note)
            return Fitted(network, "ViT of transformers", notes, {}, classes, channels, used.normalize)
    for used in states:
        if size and (ways := chains(used.state, size)):
            first = ways[0].layers
            kinds = [layer.kind for layer in first]
            label = f"chain of {kinds.count('conv')} convolutions and {kinds.count('linear')} linear layers"
            last = [layer for layer in first if layer.kind == "linear"][-1]
            note = f"a {label} was rebuilt from the shapes alone; accuracy chooses what lies between them"
            return Fitted(
                ways[0].build(), label, (*used.notes, note), {}, last.outputs,
                int(first[0].tensors["weight"].shape[1]), used.normalize, tuple(ways),
            )  # fmt: skip
    raise _unknown(found, shapes(states[-1].state))


def _infer(found: ModelInFile) -> tuple[Match, Variant] | None:
    every = list(variants(found))
    without_wrapper = [one for one in every if one.normalize == found.normalize]
    for used in (*without_wrapper, *(less for one in without_wrapper for less in inner(one))):
        matches = search(shapes(used.state))
        if len(matches) == 1:
            return matches[0], used
        if matches:
            names = ", ".join(match.arch for match in matches)
            raise UserError(f"'{_name(found)}' fits several architectures; choose one with --arch: {names}.")
    return None


def _named(found: ModelInFile, named: Named) -> tuple[Match, Variant]:
    every = list(variants(found))
    for used in (*every, *(less for one in every for less in inner(one))):
        if match := named.match(shapes(used.state)):
            return match, used
    held = min((shapes(one.state) for one in every), key=lambda known: _unlike(known, named.expected(known)))
    expected = named.expected(held)
    because = _explain.reasons(held, expected, named.arch)
    why = f" ({'; '.join(because)})" if because else ""
    raise UserError(
        f"'{_name(found)}' does not fit {named.arch}{why}: {_explain.difference(held, expected)}; "
        "name the architecture that these weights belong to."
    )


def _unlike(held: Shapes, expected: Shapes) -> int:
    return len(set(held) ^ set(expected))


def _unknown(found: ModelInFile, held: Shapes) -> UserError:
    """Return the sentence on weights that fit nothing: what they may be, what is nearest, and what to do."""
    first = next(iter(held.items()))
    text = f"'{_name(found)}' ({len(held)} tensors, first {clean(first[0], 60)} {first[1]}) fits no known architecture"
    if isinstance(claim := found.says.get("arch"), str):
        text += f", while the file says arch '{claim}'"
    if task := _explain.other_task(held):
        return UserError(f"{text} and looks like {task}; an image classifier is expected, or --arch module:factory.")
    if near := _explain.nearest(held):
        arch, reference = near
        reference = filled(reference, held)
        because = _explain.reasons(held, reference, arch) or [_explain.difference(held, reference)]
        text += f", the nearest is {arch}, but {' and '.join(because)}"
    text += "" if _timm.installed() else f" (timm's were not compared: {install_command('timm')})"
    own = " or run its own program with --trust-pickle" if found.format in ("TorchScript", "torch.export") else ""
    return UserError(f"{text}; name one with --arch NAME, module:factory or path/to/file.py:factory{own}.")


def _loaded(found: ModelInFile, match: Match, used: Variant, why: str) -> Fitted:
    state = used.state
    network = build(match.arch, match.channels, match.classes, match.params)
    notes = [why, *used.notes]
    taken: dict[str, Any] = {}
    whole = missing = 0
    for name, value in network.state_dict().items():
        source = _source(match, name)
        if name.endswith(EXTRA) and name not in state:
            held = [found.extras[key] for key in (name, found.prefix + name) if key in found.extras]
            taken[name] = held[0] if held else value
            notes.append(f"what '{clean(name)}' keeps beside weights is {'taken from' if held else 'not in'} the file")
        elif source in state:
            taken[name] = state[source]
            whole += value.is_floating_point() and not state[source].is_floating_point()
        else:
            taken[name] = value  # only num_batches_tracked may be missing
            missing += f".{name}".endswith(COUNTED)
    try:
        network.load_state_dict(taken)
    except Exception as error:  # noqa: BLE001 - set_extra_state is the user's code
        raise UserError(
            f"'{_name(found)}' does not fit {match.arch} ({clean(error, 300)}); name another architecture."
        ) from None
    if match.names:
        notes.append(f"keys were renamed to {match.arch}'s: {match.rule}; only names and shapes were compared")
    if whole:
        notes.append(f"{whole} integer tensors were converted to float32")
    if missing:
        notes.append("num_batches_tracked is missing, as in files from before PyTorch 0.4.1; no output depends on it")
    if match.arch in _OPTION_A:
        notes.append("shortcuts without weights (option A) are assumed, as robustkit builds them")
    return Fitted(
        network.eval(), match.arch, tuple(notes), dict(match.params), match.classes, match.channels, used.normalize
    )


def _source(match: Match, name: str) -> str:
    """Return the file's name of a tensor; a counter, which is not compared, lies beside its batch norm's mean."""
    if f".{name}".endswith(COUNTED):
        stem = name[: -len(COUNTED[1:])]
        beside = match.names.get(f"{stem}running_mean")
        return beside.removesuffix("running_mean") + COUNTED[1:] if beside else name
    return match.names.get(name, name)


_OPTION_A = frozenset({"resnet20", "resnet32", "resnet44", "resnet56", "small-resnet"})


def _name(found: ModelInFile) -> str:
    return clean(found.path or found.name, 200)
