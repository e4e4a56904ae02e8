"""The JSON Schema of a study file: what an editor completes and checks. Never imports torch."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from robustkit.base.configuration import json_schema, options_of
from robustkit.study.file import DEFAULT_COMMAND, Config

FILE = Path(__file__).with_name("study.schema.json")  # made by docs/make_options.py
PARAMETERS = {"type": ["string", "number", "boolean"]}
TABLES = {"type": "object", "additionalProperties": {"anyOf": [PARAMETERS, {"type": "object"}]}}


def study_schema(commands: Mapping[str, Config]) -> dict[str, Any]:
    """Return the schema of a study of any of the commands: the keys of one are those of its configuration."""
    chosen = [
        {
            "if": {"properties": {"command": {"const": name}}, **({} if name == DEFAULT_COMMAND else _NAMED)},
            "then": _keys(name, config),
        }
        for name, config in commands.items()
    ]
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "A study of robustkit",
        "type": "object",
        "properties": {"command": {"enum": [*commands], "default": DEFAULT_COMMAND}},
        "allOf": chosen,
    }


_NAMED = {"required": ["command"]}


def _keys(name: str, config: Config) -> dict[str, Any]:
    """Return the keys of one command; where a study may be a grid over an option, a list of its values is one too."""
    schema = json_schema(config)
    properties: dict[str, Any] = {
        "$schema": {"type": "string"},
        "command": {"const": name},
        **schema["properties"],
    }
    for field in options_of(config):
        if field.name not in properties:
            continue
        own = dict(properties[field.name])
        if field.option.axis:
            properties[field.name] = _either(own, {"type": "array", "minItems": 1, "items": {**own}})
        elif field.option.read == list[str]:
            properties[field.name] = _either(own, TABLES)
            properties[field.flag.removeprefix("--").replace("-", "_")] = properties[field.name]
        elif field.flag != "--" + field.name.replace("_", "-") and not field.option.positional:
            properties[field.flag.removeprefix("--").replace("-", "_")] = own
    return {"properties": properties, "required": schema["required"], "additionalProperties": False}


def _either(one: Mapping[str, Any], other: Mapping[str, Any]) -> dict[str, Any]:
    outer = {key: one[key] for key in ("description", "default") if key in one}
    inner = {key: value for key, value in one.items() if key not in outer}
    second = dict(other)
    if "items" in second:
        second["items"] = inner
    return {**outer, "anyOf": [inner, second]}
