"""Mutants of a module: what cosmic-ray changes in its text, and how a process imports that in place of the file."""

from __future__ import annotations

import ast
import importlib.abc
import importlib.machinery
import importlib.util
import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from types import CodeType
from typing import Any

ROOT = Path(__file__).parents[1]
LEFT_OUT = ("noop", "no-op", "decorator", "variable")  # change nothing that is run, or want arguments


@dataclass(frozen=True)
class Mutant:
    """A module with one thing changed.

    Attributes
    ----------
    path : Path
        The file.
    text : str
        What it would be.
    lines : range
        Which lines of the file, from 1, are not those of the mutant.
    """

    path: Path
    text: str
    lines: range

    @property
    def module(self) -> str:
        """Its dotted name."""
        return ".".join(self.path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")


class Mutated(importlib.machinery.SourceFileLoader):
    """Loads one module from another text than its file's."""

    def __init__(self, mutant: Mutant) -> None:
        super().__init__(mutant.module, str(mutant.path))
        self.text = mutant.text

    def get_code(self, fullname: str) -> CodeType:
        """Compile the text; no bytecode is read or kept."""
        return compile(self.text, self.path, "exec", dont_inherit=True)


class Finder(importlib.abc.MetaPathFinder):
    """Finds the module of a mutant by its name."""

    def __init__(self, mutant: Mutant) -> None:
        self.mutant = mutant

    def find_spec(self, name: str, path: Any, target: Any = None) -> importlib.machinery.ModuleSpec | None:
        """Return the specification of the mutated module."""
        place = self.mutant.path
        if name != self.mutant.module:
            return None
        return importlib.util.spec_from_file_location(
            name, place, loader=Mutated(self.mutant),
            submodule_search_locations=[str(place.parent)] if place.name == "__init__.py" else None,
        )  # fmt: skip


def meaning(text: str) -> str:
    """Return a text's tree without annotations, docstrings and the source that decorators name."""
    tree = ast.parse(text)
    for node in ast.walk(tree):
        if isinstance(node, ast.arg):
            node.annotation = None
        elif isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            node.returns, node.decorator_list = None, []
        elif isinstance(node, ast.AnnAssign):
            node.annotation = ast.Name("object")
    return ast.dump(tree)


def changed(before: str, after: str) -> range:
    """Return which lines of a text, from 1, another has not."""
    old, new = before.splitlines(), after.splitlines()
    start = next(
        (at for at, (one, two) in enumerate(zip(old, new, strict=False)) if one != two), min(len(old), len(new))
    )
    end = 0
    while end < min(len(old), len(new)) - start and old[-1 - end] == new[-1 - end]:
        end += 1
    return range(start + 1, max(start + 1, len(old) - end) + 1)


@dataclass(frozen=True)
class Place:
    """Where an operator can change a module: the how manieth of its places there."""

    path: Path
    operator: str
    occurrence: int

    def mutant(self) -> Mutant | None:
        """Return the mutant, or nothing where it is the same program, or none."""
        from cosmic_ray.mutating import mutate_code
        from cosmic_ray.plugins import get_operator

        text = self.path.read_text("utf-8")
        made = mutate_code(text, get_operator(self.operator)(), self.occurrence)
        try:
            same = made is None or meaning(made) == meaning(text)
            with warnings.catch_warnings():
                warnings.simplefilter("error", SyntaxWarning)  # `is` beside a literal, which is == or nonsense
                compile(made or text, str(self.path), "exec")
        except SyntaxError:
            return None
        return None if same else Mutant(self.path, made, changed(text, made))


def places(path: Path) -> Iterator[Place]:
    """Yield every place of a module that an operator can change."""
    from cosmic_ray.ast import ast_nodes, get_ast
    from cosmic_ray.plugins import get_operator, operator_names

    nodes = list(ast_nodes(get_ast(path.read_text("utf-8"))))
    for name in sorted(operator_names()):
        if not any(word in name.lower() for word in LEFT_OUT):
            operator = get_operator(name)()
            number = sum(1 for node in nodes for _ in operator.mutation_positions(node))
            yield from (Place(path, name, occurrence) for occurrence in range(number))
