"""Options that are stated once: frozen dataclasses whose fields say everything, and what is made from them.

A field's annotation is ``Annotated[type, Option(help, ...)]``; its class is the group it is shown in. From the fields
come the options of a command (:mod:`robustkit.commands.options`), the keywords and the docstring of a function
(:func:`takes`), a JSON Schema and the table in the docs. Constructing a configuration checks it, whoever does. Never
imports torch.
"""

from __future__ import annotations

import functools
import inspect
import shlex
import textwrap
import typing
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import Field, dataclass, fields
from pathlib import Path
from typing import Any, ParamSpec, TypeVar

from robustkit.base.errors import UserError, unknown
from robustkit.base.option import Option, Stated, sentence
from robustkit.base.types import described, plain_number, schema_of

P = ParamSpec("P")
R = TypeVar("R")
C = TypeVar("C", bound="Configuration")
_READ: dict[type[Any], tuple[Stated, ...]] = {}  # what each configuration states, once its annotations are read


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
        """Return the keywords that make it: those fields that are not at their default and that Python can give."""
        return {field.name: getattr(self, field.name) for field in self.given() if not field.option.command}

    def resolved(self) -> dict[str, Any]:
        """Return every option with its value as plain JSON; ``...`` stands for what only Python can hold."""
        stated = (field for field in options_of(type(self)) if not field.option.python and not field.option.command)
        return {field.name: _plain(getattr(self, field.name)) for field in stated}

    def command(self, name: str, without: Iterable[str] = ()) -> str:
        """Return the command line that makes it, but for some fields; ``...`` stands for what only Python can hold."""
        words = ["robustkit", name]
        for field in self.given():
            if field.name not in without and not field.option.python and not field.option.command:
                words += field.words(getattr(self, field.name))
        return shlex.join(words).replace("'...'", "...")

    def _check_effect(self, field: Stated) -> None:
        """An option without an effect would leave the user with a result that is not what was asked for."""
        flags = {f.name: f.flag for f in options_of(type(self))}
        named = {f.name for f in self.given()}
        said = field.said(getattr(self, field.name))
        if field.option.needs and not named & set(field.option.needs):
            wanted = " or ".join(flags[name] for name in field.option.needs)
            # Cause: the option belongs to another one that was not given, so that nobody would see that it does
            # nothing.
            raise UserError(f"{said} has no effect without {wanted}; add it, or leave {field.flag} out.")
        for other in field.option.unless:
            if other in named:
                # Cause: two options decide the same; only one of them can.
                raise UserError(f"{said} has no effect beside {flags[other]}; leave one of the two out.")


def _equal(value: Any, default: Any) -> bool:
    """Return whether a value says nothing but the default; arrays, which no default is, answer element by element."""
    if default is None and isinstance(value, list | tuple):
        return not value
    return type(value) is type(default) and bool(value == default)


def _plain(value: Any) -> Any:
    """Return a value as plain JSON, ``...`` where it is none."""
    if value is None or isinstance(value, bool | int | float | str):
        return value
    if isinstance(value, Path):
        return str(value)
    if isinstance(value, Mapping):
        return {str(name): _plain(part) for name, part in value.items()}
    return [_plain(part) for part in value] if isinstance(value, list | tuple) else "..."


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
    if option.default and field.default is not None:
        raise TypeError(f"{config.__name__}.{field.name} says what None stands for, but its default is {field.default}")
    title = option.group or inspect.cleandoc(owners[-1].__doc__ or "").split("\n", 1)[0].rstrip(".")
    return Stated(field.name, kind, field.default, title, option)


def built(config: Callable[P, C], name: str, /, *args: P.args, **kwargs: P.kwargs) -> C:
    """Construct a configuration for the function ``name``; a :class:`UserError` suggests the nearest keyword."""
    parameters = inspect.signature(config).parameters.values()
    known = [p.name for p in parameters]
    for keyword in kwargs:
        if keyword not in known:
            raise unknown(f"keyword of {name}", keyword, known)
    places = [p.name for p in parameters if p.kind is p.POSITIONAL_OR_KEYWORD]
    if len(args) > len(places):
        takes = f"only {', '.join(places)} without a keyword" if places else "nothing without a keyword"
        raise UserError(f"{name} takes {takes}; name the others, like {known[len(places)]}=...")
    missing = [p.name for p in parameters if p.default is p.empty and p.name not in {*kwargs, *places[: len(args)]}]
    if missing:
        raise UserError(f"{name} needs {missing[0]}; give {missing[0]}=...")
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
        returned = inspect.signature(function).return_annotation
        call.__annotations__ = {**kinds, "return": returned}
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


def table(config: type[Configuration]) -> str:
    """Return the options of a configuration as Markdown: a table a group."""
    lines: list[str] = []
    group = ""
    for field in options_of(config):
        if field.group != group:
            group = field.group
            lines += ["", f"**{group}**", "", "| option | keyword | what it says |", "|---|---|---|"]
        flag = field.name.upper() if field.option.positional else "" if field.option.python else f"`{field.flag}`"
        flag += f", `{field.option.short}`" if field.option.short else ""
        keyword = "" if field.option.command else f"`{field.name}`"
        lines.append(f"| {flag} | {keyword} | {sentence(field).replace('|', chr(92) + '|')} |")
    return "\n".join(lines[1:])


def json_schema(config: type[Configuration]) -> dict[str, Any]:
    """Return the JSON Schema of a configuration's keys; those that only Python can give are not among them."""
    shown = [field for field in options_of(config) if not field.option.python and not field.option.command]
    properties: dict[str, Mapping[str, Any]] = {
        field.name: {
            **schema_of(field.type),
            **({"minimum": field.option.least} if field.option.least is not None else {}),
            **({"maximum": field.option.most} if field.option.most is not None else {}),
            **({"default": field.default} if isinstance(field.default, str | int | float) else {}),
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
