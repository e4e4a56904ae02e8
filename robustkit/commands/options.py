"""Commands from configurations: each field is an option, grouped in ``--help`` by its class. Never imports torch."""

from __future__ import annotations

import inspect
import types
from collections.abc import Callable, Sequence
from dataclasses import MISSING
from typing import Annotated, Any, TypeVar

from cyclopts import App, Group, Parameter

from robustkit.base.configuration import Configuration, Stated, default_of, options_of
from robustkit.base.types import members

C = TypeVar("C", bound=Configuration)


def command(app: App, config: type[C], name: str = "") -> Callable[[Callable[[C], None]], Callable[[C], None]]:
    """Return a decorator that adds a function of a configuration to the app; its docstring is the help."""
    stated = [field for field in options_of(config) if not field.option.python]
    positional = [field for field in stated if field.option.positional]

    def decorate(function: Callable[[C], None]) -> Callable[[C], None]:
        def call(*places: Any, **values: Any) -> None:
            named = {field.name: value for field, value in zip(positional, places, strict=True)}
            function(config(**named, **values))

        call.__signature__ = inspect.Signature(_parameters(positional, stated))  # type: ignore[attr-defined]
        call.__doc__ = function.__doc__
        app.command(call, name=name or function.__name__)
        return function

    return decorate


def _parameters(positional: Sequence[Stated], stated: Sequence[Stated]) -> list[inspect.Parameter]:
    groups = {title: Group(title, sort_key=at) for at, title in enumerate(dict.fromkeys(f.group for f in stated))}
    first = [_parameter(field, inspect.Parameter.POSITIONAL_ONLY, groups) for field in positional]
    rest = [field for field in stated if not field.option.positional]
    return first + [_parameter(field, inspect.Parameter.KEYWORD_ONLY, groups) for field in rest]


def _parameter(field: Stated, kind: Any, groups: dict[str, Group]) -> inspect.Parameter:
    shown = default_of(field)
    on = isinstance(field.default, bool)
    how = Parameter(
        name=None if field.option.positional else field.flag,
        help=_help(field),
        group=groups[field.group],
        show_default=(lambda _: shown) if shown and not on else False,
        negative=() if on and field.default is False else None,
        negative_iterable=(),
    )
    read = field.read if field.required else field.read | types.NoneType
    default = inspect.Parameter.empty if field.default is MISSING else field.default
    return inspect.Parameter(field.name, kind, default=default, annotation=Annotated[read, how])


def _help(field: Stated) -> str:
    unit = f" Unit: {field.option.unit}." if field.option.unit else ""
    accepted = ", ".join(map(str, members(field.type)))
    return f"{field.option.help}{f' One of {accepted}.' if accepted else ''}{unit}"
