"""Commands from configurations: each field is an option, grouped in ``--help`` by its class. Never imports torch."""

from __future__ import annotations

import inspect
import math
import re
import types
from collections.abc import Callable, Sequence
from dataclasses import MISSING
from typing import Annotated, Any, TypeVar

from cyclopts import (
    App,
    CycloptsError,
    Group,
    MissingArgumentError,
    Parameter,
    RepeatArgumentError,
    Token,
    UnusedCliTokensError,
)
from cyclopts.help import ColumnSpec, DescriptionRenderer, HelpEntry, NameRenderer
from rich.console import Console, ConsoleOptions

from robustkit.base import options
from robustkit.base.configuration import Configuration, options_of
from robustkit.base.errors import UserError
from robustkit.base.option import Stated, default_of
from robustkit.base.types import members

C = TypeVar("C", bound=Configuration)


def command(app: App, config: type[C]) -> Callable[[Callable[[C], None]], Callable[[C], None]]:
    """Return a decorator that adds a function of a configuration to the app; its docstring is the help."""
    stated = [field for field in options_of(config) if not field.option.python]
    positional = [field for field in stated if field.option.positional]

    def decorate(function: Callable[[C], None]) -> Callable[[C], None]:
        def call(*places: Any, **values: Any) -> None:
            named = {field.name: value for field, value in zip(positional, places, strict=True)}
            function(config(**named, **values))

        call.__signature__ = inspect.Signature(_parameters(positional, stated))  # type: ignore[attr-defined]
        call.__doc__ = function.__doc__
        app.command(call, name=function.__name__)
        return function

    return decorate


def sentence(error: CycloptsError) -> str:
    """Return what is wrong with a command line and what to do about it, in one sentence."""
    if isinstance(error.__cause__, UserError):
        return str(error.__cause__)
    if isinstance(error, UnusedCliTokensError):
        return (
            f"'{' '.join(error.unused_tokens or ())}' belongs to no option; write a list as one word, like 0.1,0.2, "
            "and an option that may be repeated once for each value."
        )
    if isinstance(error, RepeatArgumentError):
        return f"{error.token.keyword} is given twice; leave one of them out."
    text = " ".join(str(error).split())
    if not isinstance(error, MissingArgumentError):
        return text
    lacking = error.argument if error.argument is not None and error.argument.required else None
    helped = (lacking.parameter.help or "").rstrip(".") if lacking else ""
    return f"{text.rstrip('.')}{f': {helped}' if helped else ''}; see --help."


def columns(console: Console, options: ConsoleOptions, entries: list[HelpEntry]) -> tuple[ColumnSpec, ...]:
    """Return the columns of a table of options; a name is never broken, however narrow the terminal."""
    longest = max((len(name) for entry in entries for name in entry.names), default=0) + len(" FLOAT")
    wide = max(longest, math.ceil(console.width * 0.35))
    name = ColumnSpec(renderer=NameRenderer(max_width=wide), style="cyclopts.name", max_width=wide, no_wrap=True)
    return (name, ColumnSpec(renderer=DescriptionRenderer()))


def _number(kind: type, tokens: Sequence[Token]) -> int | float:
    """Read a number as it is written: a whole number is not rounded to."""
    word = tokens[0]
    text = word.value.strip()
    if kind is not int:
        return options.number(text, str(word.keyword))
    if not re.fullmatch(r"[+-]?[0-9]+", text):
        raise UserError(f"{word.keyword} '{text}' is not a whole number; write digits alone.")
    return int(text)


def _parameters(positional: Sequence[Stated], stated: Sequence[Stated]) -> list[inspect.Parameter]:
    groups = {title: Group(title, sort_key=at) for at, title in enumerate(dict.fromkeys(f.group for f in stated))}
    first = [_parameter(field, inspect.Parameter.POSITIONAL_ONLY, groups) for field in positional]
    rest = [field for field in stated if not field.option.positional]
    return first + [_parameter(field, inspect.Parameter.KEYWORD_ONLY, groups) for field in rest]


def _parameter(field: Stated, kind: Any, groups: dict[str, Group]) -> inspect.Parameter:
    shown = default_of(field)
    switch = isinstance(field.default, bool)
    how = Parameter(
        name=None if field.option.positional else [field.flag, *filter(None, [field.option.short])],
        help=_help(field),
        group=groups[field.group],
        show_default=(lambda _: shown) if shown and field.default is not False else False,
        negative=() if switch and field.default is False else None,
        negative_iterable=(),
        converter=_number if field.read in (int, float) else None,
    )
    read = field.read if field.required else field.read | types.NoneType
    default = inspect.Parameter.empty if field.default is MISSING else field.default
    return inspect.Parameter(field.name, kind, default=default, annotation=Annotated[read, how])


def _help(field: Stated) -> str:
    unit = f" Unit: {field.option.unit}." if field.option.unit else ""
    accepted = ", ".join(map(str, members(field.type)))
    return f"{field.option.help}{f' One of {accepted}.' if accepted else ''}{unit}"
