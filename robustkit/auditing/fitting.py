"""Find the network that a file's weights belong to, and load them into it."""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

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
    search,
    shapes,
    stem,
)  # fmt: skip
from robustkit.auditing._limits import clean
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
    """

    network: nn.Module
    arch: str
    notes: tuple[str, ...]
    arch_args: Mapping[str, Any] = field(default_factory=dict)
    classes: int | None = None
    channels: int | None = None


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

    Raises
    ------
    UserError
        If none or several architectures fit, or the weights do not fit the one that is named: the keys that differ,
        and what would explain it.
    """
    if found.module is not None:
        unused = (f"--arch {arch} was not needed",) if arch else ()
        return Fitted(found.module, "as in the file", ("the network lies in the file", *unused))
    if not found.state:
        raise UserError(f"'{_name(found)}' holds no weights; name a file with a state dict or a whole network.")
    if arch is None:
        if arch_args:
            raise UserError("--arch-args were given without --arch; name the architecture that takes them.")
        match, why = _infer(found)
    else:
        match, why = _named(found, arch, dict(arch_args or {}), channels, classes), f"{arch} as named"
    for what, ours, theirs in (("classes", classes, match.classes), ("channels", channels, match.channels)):
        if ours is not None and ours != theirs:
            raise UserError(
                f"'{_name(found)}' is {match.arch} for {theirs} {what} and the data have {ours}; "
                f"name a dataset with {theirs} {what} or another file."
            )
    return _loaded(found, match, why)


def _infer(found: ModelInFile) -> tuple[Match, str]:
    held = shapes(found.state or {})
    matches = search(held)
    if len(matches) == 1:
        return matches[0], f"{matches[0].arch} was inferred: {_why(matches[0])}"
    if matches:
        names = ", ".join(match.arch for match in matches)
        raise UserError(f"'{_name(found)}' fits several architectures; choose one with --arch: {names}.")
    first = next(iter(held.items()))
    text = f"'{_name(found)}' ({len(held)} tensors, first {clean(first[0], 60)} {first[1]}) fits no known architecture"
    if isinstance(claim := found.says.get("arch"), str):
        text += f", while the file says arch '{claim}'"
    if task := _explain.other_task(held):
        raise UserError(f"{text} and looks like {task}; an image classifier is expected, or --arch module:factory.")
    if near := _explain.nearest(held):
        arch, reference = near
        because = _explain.reasons(held, _filled(reference, held), arch)
        because = because or [_explain.difference(held, _filled(reference, held))]
        text += f", the nearest is {arch}, but {' and '.join(because)}"
    text += "" if _timm.installed() else f" (timm's were not compared: {install_command('timm')})"
    own = " or run its own program with --trust-pickle" if found.format in ("TorchScript", "torch.export") else ""
    raise UserError(f"{text}; name one with --arch NAME, module:factory or path/to/file.py:factory{own}.")


def _filled(reference: Shapes, held: Shapes) -> Shapes:
    """Fill the number of classes into a reference, so that it is not reported as a difference."""
    last = head(held)
    classes = held[last][0] if last else CLASSES
    return {name: tuple(classes if n == CLASSES else n for n in shape) for name, shape in reference.items()}


def _named(found: ModelInFile, arch: str, params: dict[str, Any], channels: int | None, classes: int | None) -> Match:
    held = shapes(found.state or {})
    if models.is_code(arch):
        channels, classes = channels or _channels(held), classes or _classes(held)
        expected = shapes(_build(arch, channels, classes, params).state_dict())
    else:
        models.check(arch)
        try:
            reference = declared(arch, 3, CLASSES, params)
        except UserError:
            raise
        except Exception as error:  # whatever a builder makes of arguments that it does not take
            why = f"{clean(params, 200)} ({type(error).__name__}: {clean(error, 200)})"
            raise UserError(f"architecture '{arch}' does not take {why}; check --arch-args.") from None
        for mapping, rule in _mappings(held, reference):
            if sizes := exact({name: held[other] for name, other in mapping.items()}, _uncounted(reference)):
                return Match(arch, params, *sizes, names=mapping if rule else {}, rule=rule)
        expected = _filled_as(reference, channels, classes or _classes(held))
    if not _explain.difference(held, expected):
        return Match(arch, params, classes or _classes(held), channels or _channels(held), names={})
    if models.is_code(arch) and (renamed := aligned(held, expected, lambda a, b: a == b)):
        return Match(arch, params, classes or 0, channels or 0, names=renamed[0], rule=renamed[1])
    because = _explain.reasons(held, expected, arch)
    why = f" ({'; '.join(because)})" if because else ""
    raise UserError(
        f"'{_name(found)}' does not fit {arch}{why}: {_explain.difference(held, expected)}; "
        "name the architecture that these weights belong to."
    )


def _mappings(held: Shapes, reference: Shapes) -> list[tuple[dict[str, str], str]]:
    ours = _uncounted(reference)
    if set(ours) == set(_uncounted(held)):
        return [({name: name for name in ours}, "")]
    renamed = aligned(held, reference)
    return [renamed] if renamed else []


def _uncounted(known: Shapes) -> Shapes:
    return {name: shape for name, shape in known.items() if not f".{name}".endswith(COUNTED)}


def _filled_as(reference: Shapes, channels: int | None, classes: int) -> Shapes:
    first = stem(reference)
    filled = {name: tuple(classes if n == CLASSES else n for n in shape) for name, shape in reference.items()}
    if first and channels and filled[first][1] == 3:
        out, _, *kernel = filled[first]
        filled[first] = (out, channels, *kernel)
    return filled


def _classes(held: Shapes) -> int:
    return held[head(held)][0] if head(held) else 0


def _channels(held: Shapes) -> int:
    return held[stem(held)][1] if stem(held) else 3


def _build(arch: str, channels: int, classes: int, params: Mapping[str, Any]) -> nn.Module:
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


def _loaded(found: ModelInFile, match: Match, why: str) -> Fitted:
    state = dict(found.state or {})
    network = _build(match.arch, match.channels, match.classes, match.params)
    own = network.state_dict()
    notes = [why]
    taken: dict[str, Tensor] = {}
    whole = 0
    for name, value in own.items():
        source = match.names.get(name, name)
        if source in state:
            taken[name] = state[source]
            whole += value.is_floating_point() and not state[source].is_floating_point()
        else:
            taken[name] = value  # only num_batches_tracked may be missing
    try:
        network.load_state_dict(taken)
    except RuntimeError as error:
        raise UserError(
            f"'{_name(found)}' does not fit {match.arch} ({clean(error, 300)}); name another architecture."
        ) from None
    if match.names:
        notes.append(f"keys were renamed to {match.arch}'s: {match.rule}; only names and shapes were compared")
    if whole:
        notes.append(f"{whole} integer tensors were converted to float32")
    if any(f".{name}".endswith(COUNTED) and match.names.get(name, name) not in state for name in own):
        notes.append("num_batches_tracked is missing, as in files from before PyTorch 0.4.1; no output depends on it")
    if match.arch in _OPTION_A:
        notes.append("shortcuts without weights (option A) are assumed, as robustkit builds them")
    return Fitted(network.eval(), match.arch, tuple(notes), dict(match.params), match.classes, match.channels)


_OPTION_A = frozenset({"resnet20", "resnet32", "resnet44", "resnet56", "small-resnet"})


def _name(found: ModelInFile) -> str:
    return clean(found.path or found.name, 200)
