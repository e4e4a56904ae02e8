"""Everything that is wrong with a study at once, each thing with its line. Never imports torch."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any

from robustkit.base.configuration import options_of
from robustkit.base.errors import UserError
from robustkit.study import toml_lines
from robustkit.study.file import Config, Problem, StudyFile, Values, combinations

Check = Callable[[Any], Any]
Kept = Mapping[str, tuple[int, ...]]  # the fields that are left, of a list the places that are


def problems_of(file: StudyFile, config: Config, check: Check | None = None) -> list[Problem]:
    """Return everything that is wrong with a study, by line.

    What the command would refuse is found by asking it again and again, each time without what it refused before; the
    value whose absence changes what it says is the one to blame.

    Parameters
    ----------
    check : callable or None
        What the command checks of its configuration before any work.
    """
    found = list(file.problems)
    if not file.command or (found and not file.values):
        return found
    unseen = {one.name for one in options_of(config) if one.required} - set(file.values)
    for name in sorted(name for name in unseen if (name,) not in file.lines):
        found.append(Problem(0, f"{file.command} needs {name}; add {name} = ..."))
    if unseen:
        return found
    try:
        first = combinations(config, file.values)
    except UserError as error:
        key = str(error).partition(" ")[0]
        return sorted([*found, Problem(file.line(key), str(error))], key=lambda p: p.line)
    axes = first[0][1]
    variants = [first[0][0]] + [
        {**first[0][0], name: value} for name in axes for value in file.values[name] if value != axes[name]
    ]
    for values in variants:
        found += [p for p in _refused(file, values, config, check) if p not in found]
    return sorted(found, key=lambda problem: problem.line)


def _refused(file: StudyFile, values: Values, config: Config, check: Check | None) -> Iterator[Problem]:
    """Yield what the command says of one evaluation, each time without what it refused before."""

    def said(left: Kept) -> str:
        try:
            made = config(**_values(values, left))
            if check is not None:
                check(made)
        except UserError as error:
            return str(error)
        return ""

    required = {one.name for one in options_of(config) if one.required}
    left: Kept = {name: tuple(range(len(v))) if isinstance(v, list) else () for name, v in values.items()}
    while sentence := said(left):
        tried = [(path, without, said(without)) for path, without in _smaller(values, left, required)]
        to_blame = [(path, without, after) for path, without, after in tried if after != sentence]
        if not to_blame:
            yield Problem(0, sentence)
            return
        _, path, left = min(
            (_rank(file, values, path, sentence, after), path, without) for path, without, after in to_blame
        )
        yield Problem(_line(file, values, path), sentence)


def _rank(file: StudyFile, values: Values, path: toml_lines.Path, sentence: str, after: str) -> tuple[Any, ...]:
    """Return what the value to blame has the least of: named in the sentence, a parameter before its method, ..."""
    named = _word(values, path) in sentence
    parameter = len(path) > 1 and _is_settings(values[str(path[0])])
    return not named, -len(path), not parameter, bool(after), -_line(file, values, path)


def _values(values: Values, left: Kept) -> dict[str, Any]:
    """Return the values that are left, of a list those at the places that are."""
    return {
        n: [values[n][at] for at in places] if isinstance(values[n], list) else values[n] for n, places in left.items()
    }


def _smaller(values: Values, left: Kept, required: Iterable[str]) -> Iterator[tuple[toml_lines.Path, Kept]]:
    """Yield what is left without one value, or without one of a list."""
    for name, places in left.items():
        for at in places if len(places) > 1 or _is_settings(values[name]) else ():
            yield (name, at), {**left, name: tuple(place for place in places if place != at)}
        if name not in required:
            yield (name,), {key: other for key, other in left.items() if key != name}


def _is_settings(value: Any) -> bool:
    return isinstance(value, list) and all(isinstance(one, str) and "=" in one for one in value)


def _word(values: Values, path: toml_lines.Path) -> str:
    """Return the word of a value that a sentence about it would hold: of an assignment, its parameter."""
    value = values[str(path[0])]
    one = value[int(path[1])] if len(path) > 1 else value
    return str(one).partition("=")[0].rpartition(".")[2] if _is_settings(value) and len(path) > 1 else str(one)


def _line(file: StudyFile, values: Values, path: toml_lines.Path) -> int:
    """Return the line of a value; that of an assignment is found under the tables that it was written in."""
    name = str(path[0])
    value, written = values[name], file.values.get(name)
    if isinstance(written, list) and not isinstance(value, list):  # one value of those that a grid is over
        return file.line(name, written.index(value))
    if len(path) > 1 and _is_settings(value):
        method, _, parameter = value[int(path[1])].partition("=")[0].rpartition(".")
        below = file.line(name, *([method] if method else []), parameter)
        return below if below != file.line(name) else file.line(*path)
    return file.line(*path)
