"""Options that are stated once: frozen dataclasses whose fields say everything, and what is made from them.

A field's annotation is ``Annotated[type, Option(help, ...)]``; its class is the group it is shown in. From the fields
come the options of a command (:mod:`robustkit.commands.options`), the keywords and the docstring of a function
(:func:`takes`), a JSON Schema and the table in the docs. Constructing a configuration checks it, whoever does. Never
imports torch.
"""

from __future__ import annotations

import functools
import inspect
import textwrap
import typing
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import MISSING, Field, dataclass, fields
from typing import Any, ParamSpec, TypeVar

from robustkit.base.errors import UserError, unknown
from robustkit.base.options import at_least
from robustkit.base.types import described, first_simple, fits, members, plain_number, schema_of

P = ParamSpec("P")
R = TypeVar("R")
C = TypeVar("C", bound="Configuration")
_READ: dict[type[Any], tuple[Stated, ...]] = {}  # what each configuration states, once its annotations are read


@dataclass(frozen=True)
class Option:
    """What an option says of itself beside its name, type and default.

    Attributes
    ----------
    help : str
        One sentence, for a person at a terminal and for a docstring.
    unit : str
        Of its value, where a number alone says too little.
    default : str
        What None stands for, where the help does not say it.
    group : str
        The heading it is shown under; by default the title of its class.
    label : str
        What errors call it; by default its name.
    flag : str
        How the command spells it; by default ``--`` and its name with hyphens.
    least : int or None
        The smallest number that makes sense.
    needs : tuple of str
        Options one of which must be given, or this one has no effect.
    unless : tuple of str
        Options beside any of which this one has no effect.
    suites : tuple of str
        The suites that it serves; it has no effect where none of them runs.
    read : type or None
        What the command reads; by default the first plain type of the annotation.
    positional : bool
        Whether the command takes it without a flag.
    python : bool
        Whether only Python can give it: no command line can hold it.
    """

    help: str
    unit: str = ""
    default: str = ""
    group: str = ""
    label: str = ""
    flag: str = ""
    least: int | None = None
    needs: tuple[str, ...] = ()
    unless: tuple[str, ...] = ()
    suites: tuple[str, ...] = ()
    read: Any = None
    positional: bool = False
    python: bool = False


@dataclass(frozen=True)
class Stated:
    """One field of a configuration with what its annotation says: type, default, group and :class:`Option`."""

    name: str
    type: Any
    default: Any
    group: str
    option: Option

    @property
    def required(self) -> bool:
        """Whether it has no default."""
        return self.default is MISSING

    @property
    def label(self) -> str:
        """What errors call it."""
        return self.option.label or self.name.replace("_", " ")

    @property
    def flag(self) -> str:
        """How the command spells it."""
        return self.option.flag or "--" + self.name.replace("_", "-")

    @property
    def read(self) -> Any:
        """What the command reads."""
        return self.option.read or first_simple(self.type)

    def said(self, value: Any) -> str:
        """Return how the command would be told a value: ``--members 3``, ``--no-baseline``."""
        if isinstance(value, bool):
            return self.flag if value else self.flag.replace("--", "--no-", 1)
        text = ", ".join(map(str, value)) if isinstance(value, list | tuple) else str(value)
        return f"{self.flag} {textwrap.shorten(text, 60, placeholder=' ...')}"

    def check(self, value: Any) -> None:
        """Raise a :class:`UserError` unless ``value`` is of the type, one of the choices, and not too small."""
        if not fits(value, self.type):
            raise UserError(
                f"{self.label} {value!r} is of type {type(value).__name__}; it must be {described(self.type)}."
            )
        accepted = members(self.type)
        if accepted and value is not None and value not in accepted:
            raise unknown(self.label, str(value), map(str, accepted))
        if value is not None and self.option.least is not None:
            at_least(self.label, value, self.option.least)


@dataclass(frozen=True, kw_only=True)
class Configuration:
    """The base of all: every field is checked when it is made. A subclass's docstring is the title of its group."""

    def __post_init__(self) -> None:
        for field in options_of(type(self)):
            value = getattr(self, field.name)
            field.check(value)
            if (plain := plain_number(value)) is not value:  # NumPy's numbers are no JSON
                object.__setattr__(self, field.name, plain)
        for field in self.given():
            self._check_effect(field)

    def given(self) -> Iterator[Stated]:
        """Yield the fields that are not at their default."""
        for field in options_of(type(self)):
            value = getattr(self, field.name)
            if field.required or (value is not field.default and not _equal(value, field.default)):
                yield field

    def keywords(self) -> dict[str, Any]:
        """Return the keywords that make it: those fields that are not at their default."""
        return {field.name: getattr(self, field.name) for field in self.given()}

    def _check_effect(self, field: Stated) -> None:
        """An option without an effect would leave the user with a result that is not what was asked for."""
        flags = {f.name: f.flag for f in options_of(type(self))}
        named = {f.name for f in self.given()}
        said = field.said(getattr(self, field.name))
        if field.option.needs and not named & set(field.option.needs):
            wanted = " or ".join(flags[name] for name in field.option.needs)
            raise UserError(f"{said} has no effect without {wanted}; add it, or leave {field.flag} out.")
        for other in field.option.unless:
            if other in named:
                raise UserError(f"{said} has no effect beside {flags[other]}; leave one of the two out.")


def _equal(value: Any, default: Any) -> bool:
    """Return whether a value says nothing but the default; arrays, which no default is, answer element by element."""
    if default is None and isinstance(value, list | tuple):
        return not value
    return type(value) is type(default) and bool(value == default)


def options_of(config: type[Any]) -> tuple[Stated, ...]:
    """Return the fields of a configuration, by group, in the order in which they are written."""
    if config not in _READ:
        _READ[config] = _read(config)
    return _READ[config]


def _read(config: type[Any]) -> tuple[Stated, ...]:
    hints = typing.get_type_hints(config, include_extras=True)
    found = [_stated(config, field, hints[field.name]) for field in fields(config)]
    groups = list(dict.fromkeys(field.group for field in found))
    return tuple(sorted(found, key=lambda field: groups.index(field.group)))


def _stated(config: type[Any], field: Field[Any], hint: Any) -> Stated:
    owners = [cls for cls in config.__mro__ if field.name in inspect.get_annotations(cls)]
    kind, *extras = typing.get_args(hint)
    option = next(extra for extra in extras if isinstance(extra, Option))
    title = option.group or inspect.cleandoc(owners[-1].__doc__ or "").split("\n", 1)[0].rstrip(".")
    return Stated(field.name, kind, field.default, title, option)


def built(config: Callable[P, C], name: str, /, *args: P.args, **kwargs: P.kwargs) -> C:
    """Construct a configuration for the function ``name``; a :class:`UserError` suggests the nearest keyword."""
    known = list(inspect.signature(config).parameters)
    for keyword in kwargs:
        if keyword not in known:
            raise unknown(f"keyword of {name}", keyword, known)
    try:
        inspect.signature(config).bind(*args, **kwargs)
    except TypeError as error:
        raise UserError(f"{name}: {error}; it takes {', '.join(known)}.") from None
    return config(*args, **kwargs)


def takes(config: Callable[P, C]) -> Callable[[Callable[[C], R]], Callable[P, R]]:
    """Turn a function of a configuration into one of the configuration's keywords, with their types and defaults.

    A type checker and an editor see the signature of the dataclass; so do :func:`inspect.signature` and :func:`help`.
    """

    def decorate(function: Callable[[C], R]) -> Callable[P, R]:
        @functools.wraps(function)
        def call(*args: P.args, **kwargs: P.kwargs) -> R:
            return function(built(config, function.__name__, *args, **kwargs))

        stated = options_of(typing.cast("type[Any]", config))
        call.__doc__ = _with_parameters(inspect.getdoc(function) or "", stated)
        kinds = {field.name: field.type for field in stated}
        asked = inspect.signature(config).parameters.values()
        call.__signature__ = inspect.signature(function).replace(  # type: ignore[attr-defined]
            parameters=[parameter.replace(annotation=kinds[parameter.name]) for parameter in asked]
        )
        return call

    return decorate


def _with_parameters(doc: str, stated: Iterable[Stated]) -> str:
    """Return a numpydoc docstring with the section on its parameters in front of the first other section."""
    lines = ["Parameters", "----------"]
    for field in stated:
        lines.append(f"{field.name} : {described(field.type)}" + ("" if field.required else ", optional"))
        lines += textwrap.wrap(sentence(field), 112, initial_indent="    ", subsequent_indent="    ")
    head, underline, rest = doc.partition("\n\nReturns\n-------")
    return head + "\n\n" + "\n".join(lines) + (underline + rest)


def sentence(field: Stated) -> str:
    """Return an option's help with its unit and default, for a page or a docstring."""
    parts = [field.option.help]
    if accepted := members(field.type):
        parts.append(f"One of {', '.join(map(str, accepted))}.")
    if field.option.unit:
        parts.append(f"Unit: {field.option.unit}.")
    if shown := default_of(field):
        parts.append(f"Default: {shown}.")
    return " ".join(parts)


def default_of(field: Stated) -> str:
    """Return what an option is where nobody gives it, empty where its help says so or it has to be given."""
    if field.option.default or field.required or field.default is None:
        return field.option.default
    if isinstance(field.default, bool):
        return "on" if field.default else "off"
    return ", ".join(field.default) if isinstance(field.default, tuple) else str(field.default)


def table(config: type[Configuration]) -> str:
    """Return the options of a configuration as Markdown: a table a group."""
    lines: list[str] = []
    group = ""
    for field in options_of(config):
        if field.group != group:
            group = field.group
            lines += ["", f"**{group}**", "", "| option | keyword | what it says |", "|---|---|---|"]
        flag = field.name.upper() if field.option.positional else "" if field.option.python else f"`{field.flag}`"
        lines.append(f"| {flag} | `{field.name}` | {sentence(field).replace('|', chr(92) + '|')} |")
    return "\n".join(lines[1:])


def json_schema(config: type[Configuration]) -> dict[str, Any]:
    """Return the JSON Schema of a configuration's keys; those that only Python can give are not among them."""
    shown = [field for field in options_of(config) if not field.option.python]
    properties: dict[str, Mapping[str, Any]] = {
        field.name: {
            **schema_of(field.type),
            **({"minimum": field.option.least} if field.option.least is not None else {}),
            "description": sentence(field),
        }
        for field in shown
    }
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "type": "object",
        "properties": properties,
        "required": [field.name for field in shown if field.required],
        "additionalProperties": False,
    }
