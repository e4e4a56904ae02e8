"""Annotations at run time: whether a value is of a type, how to name it in a sentence, what JSON calls it.

The annotations of options need no more than plain types, ``Literal``, unions, sequences and mappings of these.
"""

from __future__ import annotations

import collections.abc
import numbers
import os
import types
import typing
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, Literal, Union

Names = str | Iterable[str]  # "pgd,mim" or ["pgd", "mim"]
Settings = Iterable[str] | Mapping[str, Any]  # ["pgd.steps=50"] or {"pgd.steps": 50}
Paths = str | Path | Iterable[str | Path]

NAMES = {
    str: "text", bool: "true or false", int: "a whole number", float: "a number", Path: "a path",
    type(None): "None", Any: "data",
}  # fmt: skip
JSON = {str: "string", bool: "boolean", int: "integer", float: "number", Path: "string"}
SEVERAL = (collections.abc.Iterable, collections.abc.Sequence, list, tuple)


def parts(kind: Any) -> tuple[Any, ...]:
    """Return the members of a union, or the type itself."""
    return typing.get_args(kind) if typing.get_origin(kind) in (Union, types.UnionType) else (kind,)


def members(kind: Any) -> tuple[Any, ...]:
    """Return the values that a ``Literal`` in a type names; empty where there is none."""
    return next((typing.get_args(part) for part in parts(kind) if typing.get_origin(part) is Literal), ())


def fits(value: Any, kind: Any) -> bool:
    """Return whether a value is of a type; of a ``Literal``, whether it is of the type of its first value."""
    return any(_fits(value, part) for part in parts(kind))


def _fits(value: Any, kind: Any) -> bool:
    origin, inside = typing.get_origin(kind), typing.get_args(kind)
    if kind is Any:
        return True
    if origin is Literal:
        return type(plain_number(value)) is type(inside[0])
    if origin in SEVERAL:
        if not isinstance(value, Iterable) or isinstance(value, str | bytes | Mapping | Iterator):
            return False  # an iterator can be read once, and several look
        try:
            return all(fits(one, inside[0]) for one in value)
        except TypeError:  # an array of no dimensions
            return False
    if origin is collections.abc.Mapping:
        return isinstance(value, Mapping) and all(fits(key, inside[0]) for key in value)
    if kind is int:
        return isinstance(value, numbers.Integral) and not isinstance(value, bool)
    if kind is float:
        return isinstance(value, numbers.Real) and not isinstance(value, bool)
    if kind is Path:
        return isinstance(value, os.PathLike)
    return isinstance(value, kind)


def takes_several(kind: Any) -> bool:
    """Return whether a value may be a list."""
    return any(typing.get_origin(part) in SEVERAL for part in parts(kind))


def plain_number(value: Any) -> Any:
    """Return a number of another library as Python's own, anything else as it is."""
    if isinstance(value, int | float):
        return value
    if isinstance(value, numbers.Integral):
        return int(value)
    return float(value) if isinstance(value, numbers.Real) else value


def described(kind: Any) -> str:
    """Return a type in words: ``text, a number, or None``."""
    words = list(dict.fromkeys(_described(part) for part in parts(kind)))
    return words[0] if len(words) == 1 else f"{', '.join(words[:-1])} or {words[-1]}"


def _described(kind: Any) -> str:
    origin, inside = typing.get_origin(kind), typing.get_args(kind)
    if origin is Literal:
        return "one of " + ", ".join(map(repr, inside))
    if origin in SEVERAL:
        return f"a list of {described(inside[0]).removeprefix('a ')}" if inside else "a list"
    if origin is collections.abc.Mapping:
        return "a mapping"
    return NAMES.get(kind) or f"a {getattr(kind, '__name__', kind)}"


def first_simple(kind: Any) -> Any:
    """Return the plain type that a command reads for an annotation: the first of its union that is one."""
    for part in parts(kind):
        if typing.get_origin(part) is Literal:
            return type(typing.get_args(part)[0])
        if part in JSON:
            return part
    raise TypeError(f"no plain type in {kind}: state what the command reads")


def schema_of(kind: Any) -> dict[str, Any]:
    """Return the JSON Schema of a type."""
    known = [found for part in parts(kind) if part is not type(None) and (found := _schema(part)) is not None]
    distinct = [schema for at, schema in enumerate(known) if schema not in known[:at]]
    return distinct[0] if len(distinct) == 1 else {"anyOf": distinct} if distinct else {}


def _schema(kind: Any) -> dict[str, Any] | None:
    origin, inside = typing.get_origin(kind), typing.get_args(kind)
    if origin is Literal:
        return {"enum": list(inside)}
    if origin in SEVERAL:
        return {"type": "array", "items": schema_of(inside[0])}
    if origin is collections.abc.Mapping:
        return {"type": "object"}
    return {"type": JSON[kind]} if kind in JSON else None
