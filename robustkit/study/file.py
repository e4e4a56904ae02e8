"""A study in a file: TOML whose keys are the options of a command, and what is wrong with it, line by line.

A list where an option takes one value makes the study a grid over it. Never imports torch.
"""

from __future__ import annotations

import itertools
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from robustkit.base.configuration import Configuration, options_of
from robustkit.base.errors import UserError, unknown
from robustkit.base.option import Stated
from robustkit.base.types import described, parts
from robustkit.study import toml_lines

DEFAULT_COMMAND = "evaluate"
ABOUT = ("$schema", "command")  # keys that are no options
Config = type[Configuration]
Values = Mapping[str, Any]  # by field; a list where a grid is asked for


@dataclass(frozen=True)
class Problem:
    """One thing that is wrong, and in which line; 0 where it is in none."""

    line: int
    sentence: str

    def at(self, path: Path) -> str:
        """Return it as compilers do: ``study.toml:3: what is wrong``."""
        return f"{path}:{self.line}: {self.sentence}" if self.line else f"{path}: {self.sentence}"


@dataclass(frozen=True)
class StudyFile:
    """What a file says: the command, the values of its options, and where each of them stands.

    ``problems`` are those that are seen without asking the command: syntax, keys and types.
    """

    path: Path
    command: str
    values: Values = field(default_factory=dict)
    lines: Mapping[toml_lines.Path, int] = field(default_factory=dict)
    problems: tuple[Problem, ...] = ()

    def line(self, *path: str | int) -> int:
        """Return the line of a value, of the list or table around it where it has none of its own."""
        while path and path not in self.lines:
            path = path[:-1]
        return self.lines.get(path, 0)


def read(path: Path | str, commands: Mapping[str, Config], command: str = "") -> StudyFile:
    """Read a study; a :class:`UserError` only where the file cannot be read at all.

    Parameters
    ----------
    commands : mapping of str to type
        The configuration of each command that a study may be of.
    command : str
        The command that the file is given to; empty: the one that it names, else ``evaluate``.
    """
    path = Path(path)
    try:
        text = path.read_text("utf-8-sig")  # editors of Windows begin a file with a mark
    except (OSError, UnicodeDecodeError) as error:
        reason = getattr(error, "strerror", None) or "it is no UTF-8 text"
        raise UserError(f"cannot read the study '{path}' ({reason}); give a TOML file.") from None
    try:
        content = toml_lines.parse(text)
    except (ValueError, RecursionError) as error:
        return StudyFile(path, command, problems=(_no_toml(text, str(error)),))
    lines = toml_lines.lines_of(text)
    named = content.get("command", command or DEFAULT_COMMAND)
    line = lines.get(("command",), 0)
    if command and named != command:
        sentence = f"the study is one of 'robustkit {named}'; give it to that, or to `robustkit run`."
        return StudyFile(path, command, problems=(Problem(line, sentence),))
    if not isinstance(named, str) or named not in commands:
        return StudyFile(path, command, problems=(Problem(line, str(unknown("command", str(named), commands))),))
    return _typed(StudyFile(path, named, lines=lines), content, commands[named])


def _no_toml(text: str, said: str) -> Problem:
    at = re.search(r"line (\d+)", said)
    what = re.sub(r" \(at .*\)$", "", said)
    if what.startswith("Cannot overwrite"):
        what = "a key stands twice; leave one of them out"
    return Problem(int(at[1]) if at else len(text.splitlines()) or 1, f"this is no TOML: {what}.")


def _typed(file: StudyFile, content: Mapping[str, Any], config: Config) -> StudyFile:
    """Return the file with the values whose keys and types are right, and the problems of the others."""
    stated = {one.name: one for one in options_of(config) if not one.option.python}
    spelled = {one.flag.removeprefix("--").replace("-", "_"): one for one in stated.values()}
    values: dict[str, Any] = {}
    lines = dict(file.lines)
    seen: dict[str, str] = {}  # by option, the key that gave it
    problems = []
    for key, value in content.items():
        if key in ABOUT:
            if not isinstance(value, str):
                problems.append(Problem(file.line(key), f"{key} {value} is no text; name a schema, or leave it out."))
            continue
        one = stated.get(key) or spelled.get(key.replace("-", "_"))
        if one is None:
            names = [n for n, o in spelled.items() if not o.option.positional] + [n for n in stated if n not in spelled]
            problems.append(Problem(file.line(key), str(unknown(f"key of '{file.command}'", key, names))))
            continue
        if (said := seen.setdefault(one.name, key)) != key:
            problems.append(Problem(file.line(key), f"{key} says the same as {said}; leave one of the two out."))
            continue
        lines |= {(one.name, *path[1:]): at for path, at in file.lines.items() if path[0] == key}
        wrong = list(_wrong(one, value, (key,), file))
        problems += wrong
        if not wrong:
            values[one.name] = _assigned(value) if isinstance(value, Mapping) else value
    return replace(file, values=values, lines=lines, problems=tuple(sorted(problems, key=lambda p: p.line)))


def _wrong(one: Stated, value: Any, path: toml_lines.Path, file: StudyFile) -> Iterator[Problem]:
    """Yield what is wrong with a value by itself: its type, or what of it is none of the choices."""
    if isinstance(value, Mapping):
        if one.option.read == list[str]:
            yield from _wrong_settings(value, path, file)
            return
    elif one.option.axis and isinstance(value, list):
        if not value:
            yield Problem(file.line(*path), f"{one.label} is an empty list; name some, or leave {path[-1]} out.")
        for at, each in enumerate(value):
            yield from _wrong(one, each, (*path, at), file)
        return
    try:
        one.check(value)
        if Any in parts(one.type) and not isinstance(value, str | list):  # what only a program can hold is none here
            raise UserError(f"{one.label} {value} is of type {type(value).__name__}; it must be {described(str)}.")
    except UserError as error:
        yield Problem(file.line(*path), str(error))


def _wrong_settings(table: Mapping[str, Any], path: toml_lines.Path, file: StudyFile) -> Iterator[Problem]:
    for key, value in table.items():
        if isinstance(value, Mapping):
            yield from _wrong_settings(value, (*path, key), file)
        elif not isinstance(value, str | int | float):
            kind = type(value).__name__
            yield Problem(file.line(*path, key), f"{key} is of type {kind}; a parameter is a number, a text or a yes.")


def _assigned(table: Mapping[str, Any], prefix: str = "") -> list[str]:
    """Return nested tables as ``--set`` has them: ``["pgd.steps=50"]``."""
    found: list[str] = []
    for key, value in table.items():
        if isinstance(value, Mapping):
            found += _assigned(value, f"{prefix}{key}.")
        else:
            found.append(f"{prefix}{key}={value}")
    return found


def combinations(config: Config, values: Values) -> list[tuple[dict[str, Any], dict[str, Any]]]:
    """Return every evaluation of a grid: its keywords, and the values that tell it from the others, by field."""
    may = {one.name for one in options_of(config) if one.option.axis}
    axes = {name: value for name, value in values.items() if name in may and isinstance(value, list)}
    for name, several in axes.items():
        if len(set(map(str, several))) < len(several):
            twice = next(v for at, v in enumerate(several) if v in several[:at])
            raise UserError(f"{name} lists {twice} twice; name each once.")
    return [
        ({**values, **dict(zip(axes, chosen, strict=True))}, dict(zip(axes, chosen, strict=True)))
        for chosen in itertools.product(*axes.values())
    ]


def folders(grid: Sequence[tuple[Values, Values]]) -> list[str]:
    """Return the folder of each cell of a grid; two whose values are spelled alike have numbers behind them."""
    named = [folder(values, chosen) for values, chosen in grid]
    return [f"{name}-{named[:at].count(name) + 1}" if named.count(name) > 1 else name for at, name in enumerate(named)]


def folder(values: Values, chosen: Values) -> str:
    """Return the folder of one cell of a grid: its dataset, and what tells it from the others."""
    named = {"dataset": values.get("dataset", "digits"), **chosen}
    return "-".join(re.sub(r"[^A-Za-z0-9.+]+", "-", str(value)).strip("-.") or name for name, value in named.items())
