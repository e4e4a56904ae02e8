"""Read what expressions of the package say, without running them: the texts that a message may be.

Constants, f-strings, names of constants, local variables, and what helpers return are worked out as far as the source
says them. What only a run knows is a word in capitals marked, as :mod:`wording` says.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Mapping
from functools import cached_property
from pathlib import Path

from parsed import Module, called, local_values, parse
from wording import MOST, SAME, few, joined, known, mark, word

ROOT = Path(__file__).parents[1]
BASES = {"UserError": 2, "RunError": 1}  # classes of errors and the exit codes that they end with
DEEP = 6  # helpers within helpers that are followed
Env = Mapping[str, list[str]]


class Source:
    """The package's modules, and the sentences in them."""

    def __init__(self, root: Path = ROOT) -> None:
        files = sorted((root / "robustkit").rglob("*.py"))
        self.modules = {made.name: made for made in (parse(path, root) for path in files)}
        self._assigned: dict[int, dict[str, list[tuple[int, ast.expr | None]]]] = {}

    def assigned(self, inside: ast.AST) -> dict[str, list[tuple[int, ast.expr | None]]]:
        """Return what the local variables of a function are set to, with the lines."""
        if id(inside) not in self._assigned:
            found = self._assigned.setdefault(id(inside), {})
            for name, line, value in local_values(inside):
                found.setdefault(name, []).append((line, value))
        return self._assigned[id(inside)]

    @cached_property
    def errors(self) -> dict[str, int]:
        """Classes of errors by name, with their exit codes."""
        found = dict(BASES)
        for _ in range(3):  # of subclasses
            for module in self.modules.values():
                for name, node in module.classes.items():
                    for base in node.bases:
                        if isinstance(base, ast.Name) and base.id in found:
                            found[name] = found[base.id]
        return found

    def resolve(self, module: Module, func: ast.expr) -> tuple[Module, str] | None:
        """Return where what is called is defined, in the package."""
        name = func.id if isinstance(func, ast.Name) else func.attr if isinstance(func, ast.Attribute) else ""
        if isinstance(func, ast.Attribute):
            owner = func.value.id if isinstance(func.value, ast.Name) else ""
            if owner in ("self", "cls"):
                return (module, name) if name in module.functions else None
            where = module.imported.get(owner)
            other = self.modules.get(f"{where[0]}.{where[1]}") if where else None
            return (other, name) if other and (name in other.functions or name in other.classes) else None
        if name in module.functions or name in module.classes:
            return module, name
        where = module.imported.get(name)
        other = self.modules.get(where[0]) if where else None
        if where and other:
            return self.resolve(other, ast.Name(where[1]))
        return None

    # -- what an expression says

    def said(self, node: ast.expr | None, module: Module, env: Env, inside: ast.AST | None, deep: int = 0) -> list[str]:
        """Return the texts that an expression may be, with words that only a run knows marked."""
        if isinstance(node, ast.Constant):
            return [str(node.value)] if isinstance(node.value, str | int | float) else [""]
        if isinstance(node, ast.JoinedStr):
            return joined([self.said(part, module, env, inside, deep) for part in node.values])
        if isinstance(node, ast.FormattedValue):
            spec = ast.unparse(node.format_spec)[2:-1] if node.format_spec else ""
            found = self.said(node.value, module, env, inside, deep)
            numeric = re.search(r"\.?\d*[gfd%]$", spec)
            return [mark("N")] if numeric and not all(one.strip("-.").isdigit() for one in found) else found
        if isinstance(node, ast.IfExp):
            return few(
                [*self.said(node.body, module, env, inside, deep), *self.said(node.orelse, module, env, inside, deep)],
                node,
            )
        if isinstance(node, ast.BoolOp):
            return few([text for value in node.values for text in self.said(value, module, env, inside, deep)], node)
        if isinstance(node, ast.BinOp):
            if isinstance(node.op, ast.Div) and _number(node, module, self) == mark("N"):  # a path
                return [mark(word(node.left)) + "/" + self.said(node.right, module, env, inside, deep)[0]]
            if isinstance(node.op, ast.Add):
                both = [self.said(side, module, env, inside, deep) for side in (node.left, node.right)]
                if any(" " in text for texts in both for text in texts):
                    return joined(both)
            return [_number(node, module, self)]
        if isinstance(node, ast.Name):
            return self._named(node, module, env, inside, deep)
        if isinstance(node, ast.Call):
            return self._returned(node, module, env, inside, deep)
        if isinstance(node, ast.Attribute) and f"self.{node.attr}" in env:
            return env[f"self.{node.attr}"]
        return [mark(word(node))]

    def _named(self, node: ast.Name, module: Module, env: Env, inside: ast.AST | None, deep: int) -> list[str]:
        if node.id in env:
            return env[node.id]
        if inside is not None and deep < DEEP:
            given = [
                value for line, value in self.assigned(inside).get(node.id, ()) if line <= getattr(node, "lineno", 0)
            ]
            if given and None not in given and len(given) <= 4:
                texts = [
                    t
                    for value in given
                    for t in self.said(value, module, env, None if _within(node, value) else inside, deep + 1)
                ]
                if all(known(text) for text in texts):
                    return few(texts, node)
            if given:
                return [mark(word(node))]
        found = self.constant(module, node.id)
        if found is not None and deep < DEEP:
            owner, value = found
            if isinstance(value, ast.Constant | ast.JoinedStr | ast.BinOp):
                return self.said(value, owner, {}, None, deep + 1)
        return [mark(word(node))]

    def constant(self, module: Module, name: str) -> tuple[Module, ast.expr] | None:
        """Return the expression that a name of a module stands for, wherever it was imported from."""
        if name in module.constants:
            return module, module.constants[name]
        where = module.imported.get(name)
        other = self.modules.get(where[0]) if where else None
        return self.constant(other, where[1]) if where and other else None

    def _returned(self, node: ast.Call, module: Module, env: Env, inside: ast.AST | None, deep: int) -> list[str]:
        name = called(node)
        if name == "next" and node.args and isinstance(node.args[0], ast.GeneratorExp):
            values = self._table(node.args[0], module)
            return [*values, *(self.said(node.args[1], module, env, inside, deep) if len(node.args) > 1 else ())]
        if name == "join" and isinstance(node.func, ast.Attribute):
            listed = self._listed(node.args[0], module)
            return [", ".join(listed) if listed else mark(word(node.args[0]) + ", ...")]
        if name in SAME and node.args:
            return self.said(node.args[0], module, env, inside, deep)
        if name in ("strip", "rstrip", "lower", "removeprefix", "removesuffix", "replace") and isinstance(
            node.func, ast.Attribute
        ):
            return self.said(node.func.value, module, env, inside, deep)
        where = self.resolve(module, node.func)
        if where and where[1] in where[0].functions and deep < DEEP:
            function = where[0].functions[where[1]]
            returned = [n.value for n in ast.walk(function) if isinstance(n, ast.Return)]
            if returned and len(returned) <= MOST:
                given = self.bound(node, function, module, env, inside, deep)
                texts = [t for value in returned for t in self.said(value, where[0], given, function, deep + 1)]
                if texts and all(known(text) for text in texts):
                    return few(texts, node)
        return [mark(word(node))]

    def _listed(self, node: ast.expr, module: Module) -> list[str]:
        """Return the texts in a tuple, a list or the keys of a dictionary that a name of the module stands for."""
        if isinstance(node, ast.Call) and getattr(node.func, "id", "") in SAME and node.args:
            return sorted(self._listed(node.args[0], module))
        found = self.constant(module, node.id) if isinstance(node, ast.Name) else None
        value = found[1] if found else None
        parts = (
            value.keys if isinstance(value, ast.Dict) else value.elts if isinstance(value, ast.Tuple | ast.List) else []
        )
        texts = [part.value for part in parts if isinstance(part, ast.Constant) and isinstance(part.value, str)]
        return texts if len(texts) == len(parts) <= 2 * MOST else []

    def _table(self, made: ast.GeneratorExp, module: Module) -> list[str]:
        """Return the texts of a dictionary of the module, over whose items a generator runs."""
        over = made.generators[0].iter
        if (
            isinstance(over, ast.Call)
            and isinstance(over.func, ast.Attribute)
            and isinstance(over.func.value, ast.Name)
        ):
            table = module.constants.get(over.func.value.id)
            if isinstance(table, ast.Dict):
                return [v.value for v in table.values if isinstance(v, ast.Constant) and isinstance(v.value, str)]
        return [mark(word(made.elt))]

    def bound(
        self, call: ast.Call, function: ast.FunctionDef, module: Module, env: Env, inside: ast.AST | None, deep: int
    ) -> dict[str, list[str]]:
        """Return what the parameters of a function are in a call."""
        names = [a.arg for a in [*function.args.posonlyargs, *function.args.args] if a.arg not in ("self", "cls")]
        found: dict[str, list[str]] = {}
        defaults = dict(zip(names[::-1], function.args.defaults[::-1], strict=False))
        for name, value in [
            *defaults.items(),
            *zip(names, call.args, strict=False),
            *((k.arg, k.value) for k in call.keywords),
        ]:
            if name and not isinstance(value, ast.Starred):
                default = defaults.get(name) is value
                owner = next((m for m in self.modules.values() if m.functions.get(function.name) is function), module)
                found[name] = self.said(
                    value, owner if default else module, {} if default else env, None if default else inside, deep + 1
                )
        return found


def _within(node: ast.AST, value: ast.AST | None) -> bool:
    return value is not None and any(
        n is node or (isinstance(n, ast.Name) and isinstance(node, ast.Name) and n.id == node.id)
        for n in ast.walk(value)
    )


def _number(node: ast.BinOp, module: Module, source: Source) -> str:
    """Return the number that an expression of constants is, else its mark."""

    def value(part: ast.expr, where: Module) -> float:
        if isinstance(part, ast.Constant) and isinstance(part.value, int | float):
            return part.value
        if isinstance(part, ast.Name) and (found := source.constant(where, part.id)):
            return value(found[1], found[0])
        if isinstance(part, ast.BinOp):
            a, b = value(part.left, where), value(part.right, where)
            kinds = {ast.Add: a + b, ast.Sub: a - b, ast.Mult: a * b}
            if type(part.op) in kinds:
                return kinds[type(part.op)]
            if isinstance(part.op, ast.FloorDiv):
                return a // b
            if isinstance(part.op, ast.LShift):
                return int(a) << int(b)
        raise ValueError

    try:
        return f"{value(node, module):g}" if value(node, module) < 1e6 else f"{value(node, module):.0f}"
    except ValueError:
        return mark("N")
