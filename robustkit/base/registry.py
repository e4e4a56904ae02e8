"""One registry for everything that comes as one file per method: attacks, defences, models, datasets, reports.

A registry reads the *source* of its package's modules (decorator, signature, first docstring line), so that names,
parameters and "did you mean" cost milliseconds and no ``import torch``; a module is imported when one of its entries
is first used. Code outside the package registers with the same decorator, at import.
"""

from __future__ import annotations

import ast
import importlib
import importlib.util
import inspect
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any, TypeVar

from robustkit.base.errors import UserError, unknown
from robustkit.base.names import ALIASES

REQUIRED = "<required>"
RUNTIME = frozenset({"generator", "trace"})  # handed over by the caller of a method, not part of its configuration
F = TypeVar("F", bound=Callable[..., Any])


@dataclass(frozen=True)
class Param:
    """A keyword-only parameter: its annotation as written, and its default (``REQUIRED`` where it has none)."""

    name: str
    annotation: str
    default: Any


@dataclass(frozen=True)
class Entry:
    """What is known of a registered method without importing it."""

    kind: str
    name: str
    module: str
    attribute: str
    summary: str
    facts: Mapping[str, Any] = field(default_factory=dict)
    params: tuple[Param, ...] = ()

    def defaults(self) -> dict[str, Any]:
        """Return the parameters that have a default, by name."""
        return {p.name: p.default for p in self.params if p.default is not REQUIRED}

    def param(self, name: str) -> Param:
        """Return one parameter by name; a :class:`UserError` lists the valid ones with types and defaults."""
        for p in self.params:
            if p.name == name:
                return p
        valid = ", ".join(
            f"{p.name}: {p.annotation}" + ("" if p.default is REQUIRED else f" = {p.default}") for p in self.params
        )
        # Cause: the name of a parameter is written otherwise here than in the paper or in another toolkit.
        raise UserError(f"{self.kind} '{self.name}' has no parameter '{name}'; it takes {valid or 'none'}.")


class Registry:
    """Names to methods of one kind, found in the modules of one package.

    Parameters
    ----------
    kind : str
        What is registered, and the name of the decorator that modules use (``attack``, ``defense``, ...).
    package : str
        The package whose modules are searched; those whose name starts with an underscore are not.
    """

    def __init__(self, kind: str, package: str) -> None:
        self.kind, self.package = kind, package
        self._external: dict[str, tuple[Entry, Callable[..., Any]]] = {}

    def __call__(self, name: str, **facts: Any) -> Callable[[F], F]:
        """Return the decorator that registers a function under ``name``, with ``facts`` about it."""

        def register(function: F) -> F:
            if not function.__module__.startswith(self.package + "."):
                if name in self:
                    raise ValueError(f"{self.kind} '{name}' is registered already")
                self._external[name] = (_from_function(self.kind, name, function, facts), function)
            return function

        return register

    def __contains__(self, name: object) -> bool:
        return name in self._scanned or name in self._external

    def __iter__(self) -> Iterator[Entry]:
        yield from sorted([*self._scanned.values(), *(e for e, _ in self._external.values())], key=lambda e: e.name)

    def names(self) -> list[str]:
        """Return every registered name, sorted."""
        return [entry.name for entry in self]

    def entry(self, name: str) -> Entry:
        """Return what is known of ``name`` without importing it; a :class:`UserError` suggests the nearest."""
        if name in self._external:
            return self._external[name][0]
        if name not in self._scanned:
            raise unknown(self.kind, name, self.names())
        return self._scanned[name]

    def get(self, name: str) -> Callable[..., Any]:
        """Return the registered function; a :class:`UserError` suggests the nearest name."""
        entry = self.entry(name)
        if name in self._external:
            return self._external[name][1]
        function: Callable[..., Any] = getattr(importlib.import_module(entry.module), entry.attribute)
        return function

    def remove(self, name: str) -> None:
        """Forget an entry that code outside the package registered."""
        self._external.pop(name, None)

    @cached_property
    def _scanned(self) -> dict[str, Entry]:
        spec = importlib.util.find_spec(self.package)
        entries: dict[str, Entry] = {}
        for folder in (spec.submodule_search_locations or []) if spec else []:
            for path in sorted(Path(folder).glob("[!_]*.py")):
                for entry in _from_source(self.kind, f"{self.package}.{path.stem}", path.read_text("utf-8")):
                    if entry.name in entries:
                        raise ValueError(f"{self.kind} '{entry.name}' is registered twice, in {entry.module} too")
                    entries[entry.name] = entry
        return entries


def _from_source(kind: str, module: str, source: str) -> Iterator[Entry]:
    for node in ast.parse(source).body:
        if not isinstance(node, ast.FunctionDef | ast.ClassDef):
            continue
        for call in node.decorator_list:
            if isinstance(call, ast.Call) and isinstance(call.func, ast.Name) and call.func.id == kind:
                facts = {k.arg: ast.literal_eval(k.value) for k in call.keywords if k.arg}
                summary = (ast.get_docstring(node) or "").split("\n", 1)[0]
                params = tuple(_params(node)) if isinstance(node, ast.FunctionDef) else ()
                yield Entry(kind, ast.literal_eval(call.args[0]), module, node.name, summary, facts, params)


def _params(node: ast.FunctionDef) -> Iterator[Param]:
    for arg, default in zip(node.args.kwonlyargs, node.args.kw_defaults, strict=True):
        if arg.arg not in RUNTIME:
            annotation = ast.unparse(arg.annotation) if arg.annotation else "Any"
            annotation = " | ".join(ALIASES.get(part, part) for part in annotation.split(" | "))
            yield Param(arg.arg, annotation, REQUIRED if default is None else ast.literal_eval(default))


def _from_function(kind: str, name: str, function: Callable[..., Any], facts: Mapping[str, Any]) -> Entry:
    params = tuple(
        Param(
            p.name,
            p.annotation if isinstance(p.annotation, str) else getattr(p.annotation, "__name__", str(p.annotation)),
            REQUIRED if p.default is p.empty else p.default,
        )
        for p in inspect.signature(function).parameters.values()
        if p.kind is p.KEYWORD_ONLY and p.name not in RUNTIME
    )
    summary = (inspect.getdoc(function) or "").split("\n", 1)[0]
    return Entry(kind, name, function.__module__, function.__qualname__, summary, dict(facts), params)
