"""The JSON Schema of ``results.json``, made of the typed records: ``python -m robustkit.records.json_schema``.

It is shipped as ``robustkit/schemas/results.schema.json``, which a test holds current. Never imports torch.
"""

from __future__ import annotations

import inspect
import json
import types
import typing
from pathlib import Path
from typing import Any, Literal, Union, get_args, get_origin, get_type_hints, is_typeddict

from robustkit.base.types import JSON
from robustkit.records.schema import SCHEMA_VERSION, Results

NAME = f"urn:robustkit:results:{SCHEMA_VERSION}"  # what a results.json says in "$schema"
FILE = Path(__file__).parents[1] / "schemas" / "results.schema.json"
NUMBERS = {"ci95": {"minItems": 2, "maxItems": 2}}  # what a type cannot say of a field


def results_schema() -> dict[str, Any]:
    """Return the JSON Schema (draft 2020-12) of ``results.json``."""
    found: dict[str, Any] = {}
    _define(Results, found)
    whole = found.pop(Results.__name__)
    properties = {**whole["properties"], "schema_version": {"const": SCHEMA_VERSION}}
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema", "$id": NAME, "title": "robustkit results",
        **whole, "properties": properties, "$defs": dict(sorted(found.items())),
    }  # fmt: skip


def text() -> str:
    """Return the file as it is shipped."""
    return json.dumps(results_schema(), indent=1) + "\n"


def _define(kind: Any, found: dict[str, Any]) -> dict[str, Any]:
    """Put a record among the definitions, and return what refers to it."""
    if kind.__name__ not in found:
        found[kind.__name__] = {}  # named before its fields are, which may hold it again
        hints = get_type_hints(kind)
        found[kind.__name__] = {
            "description": " ".join((inspect.cleandoc(kind.__doc__ or "")).split()),
            "type": "object",
            "properties": {name: {**_schema(hint, found), **NUMBERS.get(name, {})} for name, hint in hints.items()},
            "required": sorted(kind.__required_keys__),
            "additionalProperties": False,
        }
    return {"$ref": f"#/$defs/{kind.__name__}"}


def _schema(kind: Any, found: dict[str, Any]) -> dict[str, Any]:
    """Return the schema of a field; TypeError for a type that none of the records has yet."""
    origin, inside = get_origin(kind), get_args(kind)
    if is_typeddict(kind):
        return _define(kind, found)
    if origin in (Union, types.UnionType):
        return {"anyOf": [_schema(part, found) for part in inside]}
    if origin is list:
        return {"type": "array", "items": _schema(inside[0], found)}
    if origin is dict:
        values = _schema(inside[1], found)
        return {"type": "object", **({"additionalProperties": values} if values else {})}
    if origin is Literal:
        return {"enum": list(inside)}
    if kind is typing.Any:
        return {}
    if kind is type(None):
        return {"type": "null"}
    if kind in JSON:
        return {"type": JSON[kind]}
    raise TypeError(f"no JSON Schema is known for {kind}")


if __name__ == "__main__":
    FILE.write_text(text(), "utf-8")
