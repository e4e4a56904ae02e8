"""The networks that an audit is of: from files, folders and memory."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from torch import Tensor, nn

from robustkit.auditing import fitting, reading
from robustkit.auditing.choosing import Member, versions_of
from robustkit.auditing.in_memory import Called, as_module, identity, in_float32
from robustkit.base import options
from robustkit.base.errors import UserError
from robustkit.data import Dataset
from robustkit.ensembles.ensemble import fingerprint
from robustkit.models import is_code
from robustkit.study.config import AuditConfig

IDENTIFYING = 64  # images whose answers tell a function without weights from another


def members_of(config: AuditConfig, loaded: Dataset, images: Tensor) -> list[Member]:
    """Return the networks of files, folders and models in memory, in the order given."""
    members: list[Member] = []
    size = (config.input_size,) * 2 if config.input_size else (int(images.shape[2]), int(images.shape[3]))
    code = config.arch is not None and is_code(config.arch)  # other weights say themselves what they take
    known = {"channels": loaded.shape[0] if code else None, "classes": len(loaded.classes) if code else None}
    arch_args = arguments(config.arch_args or ())
    models: Any = config.models
    several = isinstance(models, Iterable) and not isinstance(models, str | nn.Module | Mapping)
    for model in models if several else [models]:
        if not isinstance(model, str | Path):
            _refuse_for_memory(config)
            members.append(_in_memory(model, len(members), images))
            continue
        for found in reading.read(model, trust_pickle=config.trust_pickle, arch=config.arch):
            chosen, others = (
                [
                    _in_file(one, fitting.fit(one, arch=config.arch, arch_args=arch_args, size=size, **known))
                    for one in group
                ]
                for group in versions_of(found, config.weights)
            )
            members.append(replace(chosen[0], versions=tuple(chosen[1:]), seen=tuple(others)))
    if not members:
        raise UserError("there is no model to audit; name at least one file.")
    return members


def _in_file(found: reading.ModelInFile, fitted: fitting.Fitted) -> Member:
    facts = {
        "name": found.name, "path": found.path, "format": found.format, "where": found.where,
        "sha256": found.sha256, "arch": fitted.arch, "arch_args": dict(fitted.arch_args),
        "parameters": _parameters(fitted.network), "notes": [*found.notes, *fitted.notes],
    }  # fmt: skip
    return Member(
        fitted.network, facts, fitted.arch, normalize=fitted.normalize, version=found.version, ways=fitted.ways
    )


def _refuse_for_memory(config: AuditConfig) -> None:
    for field in config.given():
        if field.name in ("arch", "arch_args", "trust_pickle", "weights"):
            said = field.said(getattr(config, field.name))
            raise UserError(f"{said} is about files and has no effect on a model in memory; leave {field.name} out.")


def _in_memory(model: object, index: int, images: Tensor) -> Member:
    module, notes = as_module(model)
    name = module.name if isinstance(module, Called) else type(module).__name__
    module, converted = in_float32(module, images)  # where it is: not every device has its type
    notes = [*notes, *converted]
    own = identity(module.to(images.device), images[:IDENTIFYING])
    weights = fingerprint(module.state_dict())
    sha256 = weights if _parameters(module) and not any(isinstance(m, Called) for m in module.modules()) else own
    facts = {
        "name": f"{name}-{index}", "path": "", "format": "module in memory", "where": "", "sha256": sha256,
        "arch": name, "arch_args": {}, "parameters": _parameters(module), "notes": notes,
    }  # fmt: skip
    return Member(module, facts, name, own)


def _parameters(network: nn.Module) -> int:
    return sum(p.numel() for p in network.parameters())


def arguments(items: Iterable[str] | Mapping[str, Any]) -> dict[str, Any]:
    """Read ``["depth=28", "widen=10"]`` into keyword arguments: numbers, true and false, else text; a mapping stays."""
    if isinstance(items, Mapping):
        return dict(items)
    found: dict[str, Any] = {}
    for item in items:
        key, equals, value = item.partition("=")
        if not equals or not key.strip().isidentifier():
            raise UserError(f"--arch-args '{item}' is not of the form name=value.")
        found[key.strip()] = _value(value.strip())
    return found


def _value(text: str) -> Any:
    if text.lower() in ("true", "false"):
        return text.lower() == "true"
    try:
        number = options.number(text)
    except UserError:
        return text
    return int(number) if number == int(number) and "." not in text else number
