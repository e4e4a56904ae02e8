"""What a user types, turned into checked values: eps lists, ``--set`` assignments, names. Never imports torch."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterable, Mapping
from typing import Any

from robustkit.base.errors import UserError, unknown
from robustkit.base.registry import REQUIRED, Entry, Registry

MOST_SEEDS = 1000
LARGEST_SEED = 2**31 - 1  # what is made of a seed, a seed of each epoch, say, has to fit 64 bits
# One vocabulary everywhere, so one table of what a value of that name may be: (lowest, highest, lowest is allowed).
RANGES: dict[str, tuple[float, float, bool]] = {
    "eps": (0.0, 1.0, True),
    "step_size": (0.0, 1e6, False),
    "steps": (1, 1_000_000, True),
    "restarts": (1, 100_000, True),
    "queries": (1, 100_000_000, True),
    "search_steps": (0, 1000, True),
    "targets": (0, 100_000, True),
    "decay": (0.0, 1e6, True),
    "gamma": (0.0, 1.0, False),
    "theta": (0.0, 1.0, False),
    "p_init": (0.0, 1.0, False),
    "rho": (0.0, 1.0, False),
    "eta": (0.0, 1e3, False),
    "shrink": (0.0, 1.0, True),
    "alpha_max": (0.0, 1.0, False),
    "overshoot": (0.0, 1e3, True),
    "confidence": (0.0, 1e6, True),
    "initial_c": (0.0, 1e12, False),
    "alpha": (0.0, 1e6, True),
    "beta": (0.0, 1e6, True),
    "after": (0.0, 1.0, True),
    "members": (1, 1000, True),
    "epochs": (1, 100_000, True),
    "batch_size": (1, 10_000_000, True),
    "lr": (0.0, 1e3, False),
    "shrinking_lr": (0.0, 1e3, False),
    "architecture_lr": (0.0, 1e3, False),
    "hyper_lr": (0.0, 1e3, False),
    "hyper_share": (0.0, 1e3, False),
    "width": (1, 100_000, True),
    "partial": (1, 100_000, True),
    "cells": (1, 1000, True),
    "temperature": (0.0, 1e6, False),
    "momentum": (0.0, 0.9999, True),
    "weight_decay": (0.0, 1e3, True),
    "shift": (0.0, 0.5, True),
    "label_smoothing": (0.0, 0.9999, True),
    "ema": (0.0, 0.999999, True),
    "low": (0.0, 1.0, True),
    "high": (0.0, 1.0, True),
    "lam": (0.0, 1e6, True),
    "edgenes.lam": (float("-inf"), float("inf"), True),  # the search says itself what Lambda is
    "weight": (0.0, 1e6, True),
    "tau": (0.0, 1e6, False),
    "similarity": (0.0, 1e6, True),
    "smoothness": (0.0, 1e6, True),
    "adversarial": (0.0, 1.0, True),
}


def number(text: str | float, name: str = "value") -> float:
    """Read ``0.03``, ``8/255`` or a number; a :class:`UserError` names what was wrong."""
    if isinstance(text, int | float) and not isinstance(text, bool):
        return float(text)
    match = re.fullmatch(r"\s*([^/]+?)\s*(?:/\s*([^/]+?))?\s*", str(text))
    try:
        if match is None:
            raise ValueError(text)
        value = float(match[1]) / (float(match[2]) if match[2] else 1.0)
    except ZeroDivisionError:
        raise UserError(f"{name} '{text}' divides by zero; write it like 8/255 or 0.03.") from None
    except ValueError:
        raise UserError(f"{name} '{text}' is not a number; write it like 8/255 or 0.03.") from None
    if value != value or value in (float("inf"), float("-inf")):
        raise UserError(f"{name} '{text}' is not a finite number; write it like 8/255 or 0.03.")
    return value


def eps_text(eps: float) -> str:
    """Return a budget as people write it: ``8/255`` where it is a whole number of grey levels, else ``0.05``.

    0.2 is 51/255, but nobody means that: one or two decimals that say it exactly win over the fraction.
    """
    levels = round(eps * 255)
    if levels and abs(eps * 255 - levels) < 1e-6 and abs(eps - round(eps, 2)) > 1e-9:
        return f"{levels}/255"
    return f"{eps:.6g}"


def budget_text(eps: float, norm: str) -> str:
    """Return a budget, with its norm where that is not linf, which goes without saying."""
    return eps_text(eps) if norm == "linf" else f"{eps_text(eps)} {norm}"


def in_range(name: str, value: float) -> float:
    """Check a value against the range of its name, where the vocabulary has one; of ``adp.alpha`` that of ``alpha``."""
    low, high, closed = RANGES.get(name) or RANGES.get(name.rpartition(".")[2], (float("-inf"), float("inf"), True))
    if not (low <= value <= high) or (value == low and not closed):
        left = "[" if closed else "("
        raise UserError(f"{name} {value:g} is out of range; it must be in {left}{low:g}, {high:g}].")
    return value


def at_least(label: str, value: float, least: float) -> None:
    """Raise a :class:`UserError` that names a value below the least one."""
    if value < least:
        raise UserError(f"{label} {value} is out of range; it must be at least {least}.")


def at_most(label: str, value: float, most: float) -> None:
    """Raise a :class:`UserError` that names a value above the largest one."""
    if value > most:
        raise UserError(f"{label} {value} is out of range; it must be at most {most}.")


def seeds(text: str | int | Iterable[int]) -> tuple[int, ...]:
    """Read ``0-4``, ``0,1,2``, a number or a list of numbers into distinct seeds, in the order in which they stand."""
    found = whole_numbers(text, "seed", MOST_SEEDS)
    for one in found:
        at_most("seed", one, LARGEST_SEED)
    return found


def whole_numbers(text: str | int | Iterable[int], what: str, most: int) -> tuple[int, ...]:
    """Read ``0-4``, ``0,1,2``, a number or a list of them into distinct ones, in the order in which they stand.

    ``what`` is what each of them is, for the sentence of a :class:`UserError`; a range holds fewer than ``most``.
    """
    shown = text if isinstance(text, str | int) else ",".join(map(str, text))
    found: list[int] = []
    for part in str(shown).split(","):
        match = re.fullmatch(r"\s*(\d+)\s*(?:-\s*(\d+)\s*)?", part)
        first, last = (int(match[1]), int(match[2] or match[1])) if match else (1, 0)
        if last < first:
            raise UserError(f"{what}s '{shown}' are not written like 0-4 or 0,1,2 ('{part.strip()}').")
        if last - first >= most:
            raise UserError(f"{what}s '{shown}' are more than {most}; name fewer.")
        found += range(first, last + 1)
    if twice := [one for at, one in enumerate(found) if one in found[:at]]:
        # Cause: two ranges overlap, and what one of them gives would count twice.
        raise UserError(f"{what}s '{shown}' name {twice[0]} twice; name each once.")
    return tuple(found)


def names(text: str | Iterable[str], registry: Registry | None = None, kind: str = "name") -> tuple[str, ...]:
    """Read ``pgd,mim`` or a list into distinct names, each known to ``registry`` if one is given."""
    kind = registry.kind if registry else kind
    parts = text.split(",") if isinstance(text, str) else list(text)
    found = list(dict.fromkeys(p.strip() for p in parts if p.strip()))
    if not found:
        example = f"; write some of: {', '.join(registry.names())}" if registry else ""
        raise UserError(f"the list of {kind}s is empty{example}.")
    for name in found:
        if registry:
            registry.entry(name)
    return tuple(found)


def choice(value: str, kind: str, accepted: Iterable[str]) -> str:
    """Return ``value`` if it is one of ``accepted``; a :class:`UserError` suggests the nearest otherwise."""
    if value not in (known := list(accepted)):
        raise unknown(kind, value, known)
    return value


def some_of(text: str | Iterable[str], kind: str, accepted: Iterable[str]) -> tuple[str, ...]:
    """Read ``html,md`` or a list into distinct names, each of which is accepted; none of an empty list."""
    parts = text.split(",") if isinstance(text, str) else list(text)
    known = list(accepted)
    return tuple(dict.fromkeys(choice(part.strip(), kind, known) for part in parts if part.strip()))


def assignments(items: Iterable[str] | Mapping[str, Any] | None) -> dict[str, dict[str, Any]]:
    """Read ``["pgd.steps=50", "adp.alpha=1"]`` (or a mapping of such keys) into ``{"pgd": {"steps": "50"}, ...}``."""
    pairs: list[tuple[str, Any]] = []
    if isinstance(items, Mapping):
        pairs = list(items.items())
    else:
        for item in items or ():
            key, equals, value = item.partition("=")
            if not equals:
                raise UserError(f"--set '{item}' has no value; write it like pgd.steps=50.")
            pairs.append((key.strip(), value.strip()))
    table: dict[str, dict[str, Any]] = {}
    for key, value in pairs:
        method, dot, param = key.rpartition(".")
        if not dot or not method or not param:
            raise UserError(f"--set '{key}' names no method; write it like pgd.steps=50.")
        if param in table.setdefault(method, {}):
            raise UserError(f"--set {key} is given twice, as {table[method][param]} and {value}; leave one out.")
        table[method][param] = value
    return table


def resolve(entry: Entry, given: Mapping[str, Any]) -> dict[str, Any]:
    """Return the whole configuration of a method: its defaults, with ``given`` read to the declared types."""
    values = entry.defaults()
    for name, value in given.items():
        values[name] = coerce(entry, name, value)
    missing = [p.name for p in entry.params if p.default is REQUIRED and p.name not in values and p.name != "eps"]
    if missing:
        raise UserError(
            f"{entry.kind} '{entry.name}' needs a value for '{missing[0]}': --set {entry.name}.{missing[0]}=..."
        )
    return values


def check_norm(entry: Entry, norm: str) -> None:
    """Raise a :class:`UserError` if an attack does not work in a norm."""
    supported = entry.facts.get("norms", ())
    if norm not in supported:
        raise UserError(f"attack '{entry.name}' has no norm '{norm}'; it supports {', '.join(supported)}.")


def least_classes(entry: Entry, params: Mapping[str, Any]) -> int:
    """Return with how few outputs of a model an attack works; some losses of other libraries look at the fourth."""
    least = int(entry.facts.get("least_classes", 2))
    for param, values in entry.facts.get("least_classes_of", {}).items():
        least = max(least, values.get(params.get(param), 2))
    return least


def check_classes(entry: Entry, params: Mapping[str, Any], classes: int) -> None:
    """Raise a :class:`UserError` if an attack does not work with so few outputs of a model."""
    if classes < (least := least_classes(entry, params)):
        raise UserError(
            f"attack '{entry.name}' needs a model with at least {least} outputs, and this one has {classes}; leave it "
            "out, or name one of robustkit's own, which work with two."
        )


def boolean(value: Any, label: str) -> bool:
    """Read a yes or no."""
    if str(value).lower() in ("true", "false", "1", "0", "yes", "no"):
        return str(value).lower() in ("true", "1", "yes")
    raise UserError(f"{label} '{value}' is not a yes or no; write {label}=true or {label}=false.")


def coerce(entry: Entry, name: str, value: Any) -> Any:
    """Read one value (text or typed) to the type that the method's signature declares, and check its range."""
    param = entry.param(name)
    label = f"{entry.name}.{name}"
    ranged = label if label in RANGES else name
    kinds = [part.strip() for part in param.annotation.split("|")]
    if "None" in kinds and (value is None or str(value).lower() == "none"):
        return None
    for kind in kinds:
        if kind.startswith("Literal["):
            accepted = ast.literal_eval("(" + kind[len("Literal[") : -1] + ",)")
            if value in accepted:
                return value
            raise unknown(f"{label}", str(value), [str(a) for a in accepted])
        if kind == "bool":
            return boolean(value, label)
        if kind == "int":
            read = number(value, label)
            if read != int(read):
                raise UserError(f"{label} '{value}' is not a whole number.")
            in_range(ranged, read)
            return int(read)
        if kind == "number":  # of another library, which writes 1 where it means 1.0
            read = in_range(ranged, number(value, label))
            return int(read) if read == int(read) else read
        if kind == "float":
            return in_range(ranged, number(value, label))
        if kind == "str":
            return str(value)
    raise UserError(f"{label} cannot be set from the command line (it is {param.annotation}).")
