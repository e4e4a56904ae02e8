"""What is stated of one option, how a value of it is checked, and how it is described. Never imports torch."""

from __future__ import annotations

import textwrap
from collections.abc import Callable, Mapping
from dataclasses import MISSING, dataclass
from pathlib import Path
from typing import Any, get_origin

from robustkit.base.errors import UserError, unknown
from robustkit.base.options import at_least, at_most
from robustkit.base.types import described, first_simple, fits, members, takes_several


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
    least, most : int or None
        The smallest and the largest number that make sense.
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
    command : bool
        Whether only a command can give it: it is about what is printed.
    short : str
        A second spelling of the command's, of one letter: ``-v``.
    axis : bool
        Whether a study may list several values, one evaluation or training each.
    several : str
        The option that takes several values where this one takes one.
    beyond : callable or None
        Whether a text that is none of the choices is accepted all the same; a :class:`UserError` says what is wrong.
    """

    help: str
    unit: str = ""
    default: str = ""
    group: str = ""
    label: str = ""
    flag: str = ""
    least: int | None = None
    most: int | None = None
    needs: tuple[str, ...] = ()
    unless: tuple[str, ...] = ()
    suites: tuple[str, ...] = ()
    read: Any = None
    positional: bool = False
    python: bool = False
    command: bool = False
    short: str = ""
    axis: bool = False
    several: str = ""
    beyond: Callable[[str], bool] | None = None


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

    def words(self, value: Any) -> list[str]:
        """Return the words of a command line that give a value; ``...`` for what only Python can hold."""
        if isinstance(value, bool):
            return [self.said(value)]
        if isinstance(value, Mapping):
            value = [f"{name}={one}" for name, one in value.items()]
        several = value if isinstance(value, list | tuple) else [value]
        texts = [str(v) if isinstance(v, str | int | float | Path) else "..." for v in several]
        flag = [] if self.option.positional else [self.flag]
        if get_origin(self.read) is list and flag:  # each has the flag of its own
            return [word for text in texts for word in (*flag, text)]
        return [*flag, *texts] if self.option.positional else [*flag, ",".join(texts)]

    def check(self, value: Any) -> None:
        """Raise a :class:`UserError` unless ``value`` is of the type, one of the choices, and not too small."""
        if not fits(value, self.type):
            shown = textwrap.shorten(repr(value), 60, placeholder=" ...")
            if self.option.several and isinstance(value, list | tuple):
                raise UserError(f"{self.label} {shown} is several; give them to {self.option.several}.")
            # Cause: in Python, a value of another type was given: a number as text, a list where one value is meant.
            raise UserError(
                f"{self.label} {shown} is of type {type(value).__name__}; it must be {described(self.type)}."
            )
        if isinstance(value, str) and not value.strip() and not takes_several(self.type):
            # Cause: a variable of the shell that is not set, or a comma at an end.
            raise UserError(f"{self.label} is empty; give {described(self.type)}, or leave {self.flag} out.")
        accepted = members(self.type)
        beyond = self.option.beyond is not None and isinstance(value, str) and self.option.beyond(value)
        if accepted and value is not None and value not in accepted and not beyond:
            raise unknown(self.label, str(value), map(str, accepted))
        if value is not None and self.option.least is not None:
            at_least(self.label, value, self.option.least)
        if value is not None and self.option.most is not None:
            at_most(self.label, value, self.option.most)


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
    if field.required or field.default is None:
        return field.option.default
    if isinstance(field.default, bool):
        return "on" if field.default else "off"
    return ", ".join(field.default) if isinstance(field.default, tuple) else str(field.default)
