"""A file of the package as its source says it: what it defines and imports, its comments and docstrings."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path


@dataclass
class Module:
    """A file of the package: its tree, what it defines, and whence it imports names."""

    name: str
    path: Path
    tree: ast.Module
    lines: list[str]
    functions: dict[str, ast.FunctionDef] = field(default_factory=dict)
    classes: dict[str, ast.ClassDef] = field(default_factory=dict)
    constants: dict[str, ast.expr] = field(default_factory=dict)
    imported: dict[str, tuple[str, str]] = field(default_factory=dict)
    inside: dict[ast.AST, ast.FunctionDef] = field(default_factory=dict)
    calls: list[ast.Call] = field(default_factory=list)
    starts: dict[int, int] = field(default_factory=dict)  # the first line of the statement on a line


def parse(path: Path, root: Path) -> Module:
    """Return a file below ``root`` as a module."""
    parts = path.relative_to(root).with_suffix("").parts
    name = ".".join(parts[:-1] if parts[-1] == "__init__" else parts)
    source = path.read_text("utf-8")
    made = Module(name, path, ast.parse(source), source.splitlines())
    _index(made, made.tree, None)
    for statement in made.tree.body:
        if isinstance(statement, ast.Assign):
            for target in statement.targets:
                for key, value in pairs(target, statement.value):
                    made.constants[key] = value
        elif isinstance(statement, ast.AnnAssign) and statement.value and isinstance(statement.target, ast.Name):
            made.constants[statement.target.id] = statement.value
    return made


def _index(made: Module, node: ast.AST, inside: ast.FunctionDef | None) -> None:
    """Note what stands in which function, what is defined and imported, and on which line each statement begins."""
    if inside is not None:
        made.inside[node] = inside
    if isinstance(node, ast.FunctionDef):
        made.functions.setdefault(node.name, node)
        inside = made.inside[node] = node
    elif isinstance(node, ast.ClassDef):
        made.classes[node.name] = node
    elif isinstance(node, ast.ImportFrom) and node.module:
        made.imported.update({alias.asname or alias.name: (node.module, alias.name) for alias in node.names})
    elif isinstance(node, ast.stmt):
        made.starts.update(dict.fromkeys(range(node.lineno, (node.end_lineno or node.lineno) + 1), node.lineno))
    elif isinstance(node, ast.Call):
        made.calls.append(node)
    for child in ast.iter_child_nodes(node):
        _index(made, child, inside)


def pairs(target: ast.expr, value: ast.expr) -> Iterator[tuple[str, ast.expr]]:
    """Yield the names that an assignment sets, each with its value."""
    if isinstance(target, ast.Name):
        yield target.id, value
    elif isinstance(target, ast.Tuple) and isinstance(value, ast.Tuple):
        for one, of_it in zip(target.elts, value.elts, strict=False):
            yield from pairs(one, of_it)


def local_values(inside: ast.AST) -> Iterator[tuple[str, int, ast.expr | None]]:
    """Yield what local variables are set to, and where; None where that is no expression of its own (a loop, +=)."""
    for node in ast.walk(inside):
        if isinstance(node, ast.Assign):
            found = [pair for target in node.targets for pair in pairs(target, node.value)]
            yield from ((key, node.lineno, value) for key, value in found)
            bare = {n.id for target in node.targets for n in ast.walk(target) if isinstance(n, ast.Name)}
            yield from ((key, node.lineno, None) for key in bare - {key for key, _ in found})
        elif isinstance(node, ast.AnnAssign | ast.NamedExpr) and isinstance(node.target, ast.Name):
            if node.value is not None:
                yield node.target.id, node.lineno, node.value
        elif isinstance(node, ast.AugAssign | ast.For | ast.comprehension):
            for name in {n.id for n in ast.walk(node.target) if isinstance(n, ast.Name)}:
                yield name, getattr(node, "lineno", 0), None


def called(call: ast.Call) -> str:
    """Return the name of what a call calls, without its owner."""
    return call.func.attr if isinstance(call.func, ast.Attribute) else getattr(call.func, "id", "")


def cause_above(module: Module, call: ast.AST) -> str:
    """Return the comment ``# Cause: ...`` above the statement of a call."""
    line = module.starts.get(getattr(call, "lineno", 0), 1) - 2
    block: list[str] = []
    while line >= 0 and module.lines[line].lstrip().startswith("#"):
        block.insert(0, module.lines[line].lstrip().removeprefix("#").strip())
        line -= 1
    text = " ".join(block)
    return text.partition("Cause: ")[2] if "Cause: " in text else ""


def when_raised(node: ast.FunctionDef | None) -> str:
    """Return when a function raises one of our errors, as its docstring says."""
    said = (ast.get_docstring(node) or "") if node else ""
    found = re.search(r"Raises\n-+\n(?:.*\n)*?(?:UserError|Damaged|CallError|RunError)\n((?:    .*\n?)+)", said + "\n")
    return " ".join(found[1].split()) if found else ""


def first_paragraph(docstring: str) -> str:
    """Return a docstring's first paragraph."""
    return " ".join(docstring.split("\n\n")[0].split())
