"""``results.json`` itself: written whole or not at all, read with every field checked to be there."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, cast, get_args, get_origin, get_type_hints, is_typeddict

from robustkit.base.errors import UserError
from robustkit.base.files import write_json
from robustkit.records.schema import SCHEMA_VERSION, Numbers, Results
from robustkit.reports import report


@report("json", title="results.json")
def json_file(results: Results, out: Path) -> list[Path]:
    """Write ``results.json`` atomically; ValueError on NaN, and the old file stays."""
    path = out / "results.json"
    write_json(path, results)
    return [path]


def load_results(path: Path) -> Results:
    """Read ``results.json``, given as the file or the folder that holds it.

    Raises
    ------
    UserError
        If it is missing, is not valid JSON, lacks a field, or was written by a newer robustkit.
    """
    return cast(Results, _read(path, Results))


def load_numbers(path: Path) -> Numbers:
    """Read of ``results.json`` no more than its numbers, which older files have as well; errors as of all of it."""
    return cast(Numbers, _read(path, Numbers))


def _read(path: Path, kind: Any) -> Any:
    path = Path(path)
    path = path / "results.json" if path.is_dir() else path
    try:
        value = json.loads(path.read_text("utf-8"), parse_constant=_no_constant)
    except OSError as error:
        if not path.exists() and (path.parent / "runs" / "study.json").is_file():
            # Cause: the evaluation was interrupted, or its results.json was deleted or not copied.
            raise UserError(
                f"'{path.parent}' has runs, but no results.json, like an interrupted evaluation; run it again, "
                f"or `robustkit report {path.parent}`."
            ) from None
        raise UserError(
            f"cannot read '{path}' ({error.strerror}); give the results.json, or the folder, that 'evaluate' wrote."
        ) from None
    except ValueError as error:  # bad JSON, bad UTF-8
        raise UserError(f"'{path}' is not a results.json: {error}; give one that 'evaluate' wrote.") from None
    version = value.get("schema_version") if isinstance(value, dict) else None
    if not isinstance(version, int):
        raise UserError(f"'{path}' is not a results.json: it has no schema_version; give one that 'evaluate' wrote.")
    if version > SCHEMA_VERSION:
        # Cause: a newer robustkit wrote the file.
        raise UserError(
            f"'{path}' has schema_version {version}; this robustkit reads up to {SCHEMA_VERSION}: upgrade robustkit."
        )
    wrong = _wrong(value, kind, "")
    if wrong and version < SCHEMA_VERSION:
        raise UserError(
            f"'{path}' has schema_version {version}; this robustkit reads {SCHEMA_VERSION}: make it again with "
            "`robustkit report`."
        )
    if wrong:
        raise UserError(f"'{path}' is not a results.json: {wrong}; give one that 'evaluate' wrote.")
    return value


def _wrong(value: Any, kind: Any, where: str) -> str:
    """Return the first field that is missing or of another shape than ``kind`` says, or an empty text."""
    if get_origin(kind) is list:
        if not isinstance(value, list):
            return f"{where} is not a list"
        inside = (_wrong(item, get_args(kind)[0], f"{where}[{at}]") for at, item in enumerate(value))
        return next(filter(None, inside), "")
    if is_typeddict(kind):
        if not isinstance(value, dict):
            return f"{where or 'its content'} is not an object"
        for key, inner in get_type_hints(kind).items():
            if key not in value and key in kind.__optional_keys__:
                continue
            name = f"{where}.{key}" if where else key
            wrong = _wrong(value[key], inner, name) if key in value else f"{name} is missing"
            if wrong:
                return wrong
    if kind is float and (isinstance(value, bool) or not isinstance(value, int | float)):
        return f"{where} is not a number"
    return ""


def _no_constant(name: str) -> float:
    raise ValueError(f"{name} is not JSON")
