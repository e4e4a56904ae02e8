"""Commands from configurations: each field is an option, grouped in ``--help`` by its class. Never imports torch."""

from __future__ import annotations

import functools
import inspect
import math
import re
import types
from collections.abc import Callable, Sequence
from dataclasses import MISSING
from pathlib import Path
from typing import Annotated, Any, TypeVar

from cyclopts import (
    App,
    ArgumentCollection,
    CycloptsError,
    Group,
    MissingArgumentError,
    Parameter,
    RepeatArgumentError,
    Token,
    UnknownOptionError,
    UnusedCliTokensError,
)
from cyclopts.help import ColumnSpec, DescriptionRenderer, HelpEntry, NameRenderer
from rich.console import Console, ConsoleOptions

from robustkit.base import options
from robustkit.base.configuration import Configuration, options_of
from robustkit.base.errors import UserError
from robustkit.base.option import Stated, default_of
from robustkit.base.types import members
from robustkit.commands import studies

C = TypeVar("C", bound=Configuration)
ASKED: dict[str, Any] = {"config": None, "dry_run": False, "yes": False}  # what every command takes beside its options
IN_FILE = "\0"  # stands for a value that only the file has


def command(app: App, config: type[C]) -> Callable[[Callable[[C], None]], Callable[[C], None]]:
    """Return a decorator that adds a function of a configuration to the app; its docstring is the help."""
    stated = [field for field in options_of(config) if not field.option.python]
    positional = [field for field in stated if field.option.positional]

    beside = ASKED.keys() - {field.name for field in stated}

    def decorate(function: Callable[[C], None]) -> Callable[[C], None]:
        name = function.__name__

        def call(*places: Any, **values: Any) -> None:
            asked = studies.Asked(**{key: values.pop(key, ASKED[key]) for key in beside})
            named = {field.name: value for field, value in zip(positional, places, strict=False)}
            given = {key: value for key, value in {**named, **values}.items() if not _is_in_file(value)}
            studies.run(name, config, function, given, asked)

        own = _own_parameters(name in studies.PLANNED)
        call.__signature__ = inspect.Signature([*_parameters(positional, stated), *own])  # type: ignore[attr-defined]
        call.__doc__ = function.__doc__
        app.command(call, name=name, config=_leave_to_file)
        return function

    return decorate


# What other tools call it, where the nearest name is another thing: --write-baseline would overwrite what is read.
MEANT = {"--baseline": "--against-baseline", **dict.fromkeys(("--max", "--threshold", "--fail-under"), "--min")}


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
    if isinstance(error, UnknownOptionError):
        meant = MEANT.get((error.token.keyword or error.token.value).split("=")[0])
        if meant and any(meant in argument.names for argument in error.argument_collection):
            return f"Unknown option: {error.token.keyword or error.token.value}. Did you mean {meant}?"
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
    name = ColumnSpec(renderer=NameRenderer(max_width=wide), style="cyan", max_width=wide, no_wrap=True)
    return (name, ColumnSpec(renderer=DescriptionRenderer()))


def _number(kind: type, tokens: Sequence[Token], several: str = "") -> int | float:
    """Read a number as it is written: a whole number is not rounded to; ``several`` is the option for a list."""
    word = tokens[0]
    text = word.value.strip()
    if several and "," in text:
        # Cause: a list was given to an option that takes one value.
        raise UserError(f"{word.keyword} '{text}' is several; give them to {several}.")
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
        converter=functools.partial(_number, several=field.option.several) if field.read in (int, float) else None,
    )
    read = field.read if field.required else field.read | types.NoneType
    default = inspect.Parameter.empty if field.default is MISSING else field.default
    if field.read is str and default is not inspect.Parameter.empty and not isinstance(default, str | None):
        default = shown  # as it is typed: where pydantic is loaded Cyclopts holds defaults, too, against the type
    return inspect.Parameter(field.name, kind, default=default, annotation=Annotated[read, how])


def _own_parameters(planned: bool) -> list[inspect.Parameter]:
    """Return what is said beside the options of a configuration."""
    group = Group("Study", sort_key=1000)
    own: list[tuple[str, type, str]] = [
        ("config", Path, "A study: TOML whose keys are these options; what is said here goes before the file.")
    ]
    if planned:
        own += [
            ("dry_run", bool, "Print the plan, what it costs and how long it takes; run nothing."),
            ("yes", bool, f"Begin a study of {studies.MANY} cells or more without asking."),
        ]
    return [
        inspect.Parameter(
            name, inspect.Parameter.KEYWORD_ONLY, default=ASKED[name],
            annotation=Annotated[
                kind | types.NoneType, Parameter(help=text, group=group, negative=(), show_default=False)
            ],
        )
        for name, kind, text in own
    ]  # fmt: skip


def _leave_to_file(app: App, commands: tuple[str, ...], arguments: ArgumentCollection) -> None:
    """Let a file give what has to be given; what it lacks is said when it is read."""
    if not any(argument.name == "--config" and argument.tokens for argument in arguments):
        return
    for argument in arguments:
        if argument.required and not argument.tokens:
            argument.append(Token(value=IN_FILE, source="config"))


def _is_in_file(value: Any) -> bool:
    return IN_FILE in [str(one) for one in (value if isinstance(value, list) else [value])]


def _help(field: Stated) -> str:
    unit = f" Unit: {field.option.unit}." if field.option.unit else ""
    accepted = ", ".join(map(str, members(field.type)))
    return f"{field.option.help}{f' One of {accepted}.' if accepted else ''}{unit}"
