"""The study that was run, with every option and every parameter said: beside the results, to be run again."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from robustkit.attacks import OWN_OPTION
from robustkit.base import options
from robustkit.base.configuration import Configuration, options_of
from robustkit.base.files import write_atomic
from robustkit.base.version import __version__
from robustkit.records.cells import Spec

FILE = "study.resolved.toml"


def write(folder: Path, command: str, config: Configuration, methods: Iterable[Spec] = ()) -> Path | None:
    """Write a configuration as a study; None where it holds what only a program can hold.

    Parameters
    ----------
    methods : iterable of Spec
        Attacks and defences whose whole configuration is written, with what ``--set`` says of others.
    """
    text = toml(command, config, methods)
    if text is None:
        return None
    path = folder / FILE
    write_atomic(path, lambda stream: stream.write(text.encode()))
    return path


def toml(command: str, config: Configuration, methods: Iterable[Spec] = ()) -> str | None:
    """Return a configuration as TOML, defaults included, None where it cannot be said."""
    lines = [
        f"# What robustkit {__version__} ran, with every option; `robustkit run {FILE}` gives the same numbers again.",
        f"command = {json.dumps(command)}",
    ]
    tables: dict[str, dict[str, Any]] = {}
    for field in options_of(type(config)):
        value = getattr(config, field.name)
        if field.option.python or value is None:
            continue
        if field.name == "settings":
            tables = options.assignments(value)
            continue
        if (said := _value(value)) is None:
            return None
        lines.append(f"{field.name} = {said}")
    _whole(tables, methods)
    for method, params in tables.items():
        lines += ["", f"[set.{_key(method)}]"]
        for name, value in params.items():
            if (said := _value(value)) is None:
                return None
            lines.append(f"{_key(name)} = {said}")
    return "\n".join(lines) + "\n"


def _whole(tables: dict[str, dict[str, Any]], methods: Iterable[Spec]) -> None:
    """Put the parameters of methods into the tables; where one runs twice, otherwise configured, a preset says how."""
    every = list(methods)
    for spec in every:
        alone = sum(other.name == spec.name for other in every) == 1
        if alone and "+" not in spec.name and ":" not in spec.name:
            own = {k: v for k, v in spec.params.items() if k not in OWN_OPTION and v is not None}
            if own and "eps" not in spec.params:
                tables[spec.name] = {**tables.get(spec.name, {}), **own}


def _value(value: Any) -> str | None:
    if isinstance(value, Path):
        return json.dumps(str(value), ensure_ascii=False)
    if isinstance(value, bool | int | float | str):
        return json.dumps(value, ensure_ascii=False)
    if isinstance(value, Mapping) or not isinstance(value, list | tuple):
        return None
    inside = [_value(one) for one in value]
    return None if None in inside else f"[{', '.join(one for one in inside if one)}]"


def _key(name: str) -> str:
    return name if all(c.isalnum() or c in "-_" for c in name) and name.isascii() else json.dumps(name)
