"""Find every sentence that robustkit can end with, in its source: what is wrong, the remedy, the cause.

Nothing is run. An error is a call of ``UserError``, ``RunError``, a class made of one of them, or ``Damaged``; its
message is worked out as far as the source says it: constants, f-strings, names of constants, local variables, and what
helpers return. What only a run knows stands in capitals. A function that is handed a phrase and makes an error of it is
followed to its calls, so that ``refuse(path, "is empty")`` gives the sentence of the user's terminal.

The cause of a sentence is, in this order, a comment ``# Cause: ...`` above the statement that makes it, what the
docstring of the function says under *Raises*, or what the function is for.
"""

from __future__ import annotations

import ast
import itertools
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

ROOT = Path(__file__).parents[1]
BASES = {"UserError": 2, "RunError": 1}  # classes of errors and the exit codes that they end with
MOST = 12  # ways to say one sentence that are told apart; of more, what differs stands in capitals
SHORT = 12  # characters of a word that is told apart within a sentence
DEEP = 6  # helpers within helpers that are followed
# What a function without an error of its own returns as the sentence of a command line.
RETURNED = {"robustkit.commands.options": ("sentence",)}
# Damaged is the reason why a file is refused; the sentence is made where the file's name is known.
FOLLOWED = ("unknown",)  # functions whose sentences are told apart though they say enough by themselves
VERBS = "(?:did|Known|give|choose|use|write|upgrade|add|--)"  # with which a remedy begins behind a colon
SMALL = {"is", "are", "has", "have", "holds", "the", "of"}  # words that say nothing by themselves
MADE_BY = {"Damaged": ("robustkit.auditing._limits", "refuse", ("path",))}
SAME = {
    "clean", "str", "repr", "tuple", "list", "sorted", "dict", "Path", "shorten", "max", "min", "abs", "float", "int",
    "round",
}  # fmt: skip
# Words of the code that a reader would not know, and objects whose name is meant.
CALLED = {
    "FLAG": "--OPTION", "FLAGS": "--OPTION", "SAID": "--OPTION VALUE", "STRERROR": "REASON", "GETATTR": "REASON",
    "INSTALL-COMMAND": "pip install ...", "DESCRIBED": "TYPE", "SHOWN": "VALUE",
}  # fmt: skip
OBJECTS = {"SELF", "ENTRY", "FOUND", "SPEC", "LOADED", "FIELD", "CHOSEN", "NEED", "RECORD", "PUBLISHED"}
OPEN, CLOSE = "\x01", "\x02"  # around a word that only a run knows
Env = Mapping[str, list[str]]


@dataclass(frozen=True)
class Sentence:
    """One way in which robustkit can end."""

    text: str
    code: int
    module: str
    line: int
    cause: str = ""
    when: str = ""  # what the docstring says under Raises
    met: str = ""  # what the function around it is for

    @property
    def wrong(self) -> str:
        """What is wrong, without the remedy."""
        return _split(self.text)[0]

    @property
    def remedy(self) -> str:
        """What to do about it; empty where the sentence does not say."""
        return _split(self.text)[1]

    def pattern(self) -> re.Pattern[str]:
        """Return what matches the sentence with every word that only a run knows filled in."""
        parts = re.split(f"{OPEN}.*?{CLOSE}", self.text)
        return re.compile(".*?".join(re.escape(part) for part in parts), re.DOTALL)


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


def _module(path: Path, root: Path) -> Module:
    parts = path.relative_to(root).with_suffix("").parts
    name = ".".join(parts[:-1] if parts[-1] == "__init__" else parts)
    source = path.read_text("utf-8")
    made = Module(name, path, ast.parse(source), source.splitlines())
    _index(made, made.tree, None)
    for statement in made.tree.body:
        if isinstance(statement, ast.Assign):
            for target in statement.targets:
                for key, value in _pairs(target, statement.value):
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


def _pairs(target: ast.expr, value: ast.expr) -> Iterator[tuple[str, ast.expr]]:
    if isinstance(target, ast.Name):
        yield target.id, value
    elif isinstance(target, ast.Tuple) and isinstance(value, ast.Tuple):
        for one, of_it in zip(target.elts, value.elts, strict=False):
            yield from _pairs(one, of_it)


class Source:
    """The package's modules, and the sentences in them."""

    def __init__(self, root: Path = ROOT) -> None:
        files = sorted((root / "robustkit").rglob("*.py"))
        self.modules = {made.name: made for made in (_module(path, root) for path in files)}
        self._assigned: dict[int, dict[str, list[tuple[int, ast.expr | None]]]] = {}

    def assigned(self, inside: ast.AST) -> dict[str, list[tuple[int, ast.expr | None]]]:
        """Return what the local variables of a function are set to, with the lines."""
        if id(inside) not in self._assigned:
            found = self._assigned.setdefault(id(inside), {})
            for name, line, value in _assigned(inside):
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
            return _joined([self.said(part, module, env, inside, deep) for part in node.values])
        if isinstance(node, ast.FormattedValue):
            spec = ast.unparse(node.format_spec)[2:-1] if node.format_spec else ""
            found = self.said(node.value, module, env, inside, deep)
            numeric = re.search(r"\.?\d*[gfd%]$", spec)
            return [_mark("N")] if numeric and not all(one.strip("-.").isdigit() for one in found) else found
        if isinstance(node, ast.IfExp):
            return _few(
                [*self.said(node.body, module, env, inside, deep), *self.said(node.orelse, module, env, inside, deep)],
                node,
            )
        if isinstance(node, ast.BoolOp):
            return _few([text for value in node.values for text in self.said(value, module, env, inside, deep)], node)
        if isinstance(node, ast.BinOp):
            if isinstance(node.op, ast.Div) and _number(node, module, self) == _mark("N"):  # a path
                return [_mark(_word(node.left)) + "/" + self.said(node.right, module, env, inside, deep)[0]]
            if isinstance(node.op, ast.Add):
                both = [self.said(side, module, env, inside, deep) for side in (node.left, node.right)]
                if any(" " in text for texts in both for text in texts):
                    return _joined(both)
            return [_number(node, module, self)]
        if isinstance(node, ast.Name):
            return self._named(node, module, env, inside, deep)
        if isinstance(node, ast.Call):
            return self._called(node, module, env, inside, deep)
        if isinstance(node, ast.Attribute) and f"self.{node.attr}" in env:
            return env[f"self.{node.attr}"]
        return [_mark(_word(node))]

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
                if all(_known(text) for text in texts):
                    return _few(texts, node)
            if given:
                return [_mark(_word(node))]
        found = self.constant(module, node.id)
        if found is not None and deep < DEEP:
            owner, value = found
            if isinstance(value, ast.Constant | ast.JoinedStr | ast.BinOp):
                return self.said(value, owner, {}, None, deep + 1)
        return [_mark(_word(node))]

    def constant(self, module: Module, name: str) -> tuple[Module, ast.expr] | None:
        """Return the expression that a name of a module stands for, wherever it was imported from."""
        if name in module.constants:
            return module, module.constants[name]
        where = module.imported.get(name)
        other = self.modules.get(where[0]) if where else None
        return self.constant(other, where[1]) if where and other else None

    def _called(self, node: ast.Call, module: Module, env: Env, inside: ast.AST | None, deep: int) -> list[str]:
        name = _called(node)
        if name == "next" and node.args and isinstance(node.args[0], ast.GeneratorExp):
            values = self._table(node.args[0], module)
            return [*values, *(self.said(node.args[1], module, env, inside, deep) if len(node.args) > 1 else ())]
        if name == "join" and isinstance(node.func, ast.Attribute):
            listed = self._listed(node.args[0], module)
            return [", ".join(listed) if listed else _mark(_word(node.args[0]) + ", ...")]
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
                if texts and all(_known(text) for text in texts):
                    return _few(texts, node)
        return [_mark(_word(node))]

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
        return [_mark(_word(made.elt))]

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


def _assigned(inside: ast.AST) -> Iterator[tuple[str, int, ast.expr | None]]:
    """Yield what local variables are set to, and where; None where that is no expression of its own (a loop, +=)."""
    for node in ast.walk(inside):
        if isinstance(node, ast.Assign):
            pairs = [pair for target in node.targets for pair in _pairs(target, node.value)]
            yield from ((key, node.lineno, value) for key, value in pairs)
            bare = {n.id for target in node.targets for n in ast.walk(target) if isinstance(n, ast.Name)}
            yield from ((key, node.lineno, None) for key in bare - {key for key, _ in pairs})
        elif isinstance(node, ast.AnnAssign | ast.NamedExpr) and isinstance(node.target, ast.Name):
            if node.value is not None:
                yield node.target.id, node.lineno, node.value
        elif isinstance(node, ast.AugAssign | ast.For | ast.comprehension):
            for name in {n.id for n in ast.walk(node.target) if isinstance(n, ast.Name)}:
                yield name, getattr(node, "lineno", 0), None


def _within(node: ast.AST, value: ast.AST | None) -> bool:
    return value is not None and any(
        n is node or (isinstance(n, ast.Name) and isinstance(node, ast.Name) and n.id == node.id)
        for n in ast.walk(value)
    )


def _joined(parts: list[list[str]]) -> list[str]:
    """Join alternatives: the longest in sentences of their own, the others beside each other, as in has/have."""
    parts = [
        [_mark(_bare("/".join(part)))] if len(part) > 1 and max(map(len, part)) < SHORT else part for part in parts
    ]
    several = sorted((at for at, part in enumerate(parts) if len(part) > 1), key=lambda at: -max(map(len, parts[at])))
    for at in several[1:]:
        parts[at] = [_mark(_bare(" / ".join(parts[at])))]
    return ["".join(chosen) for chosen in itertools.product(*parts)]


def _bare(text: str) -> str:
    return text.replace(OPEN, "").replace(CLOSE, "")


def _few(texts: list[str], node: ast.AST) -> list[str]:
    kept = list(dict.fromkeys(texts))
    if "" in kept and len(kept) > 1:  # what may be left out
        kept = [_mark(_bare("/".join(text for text in kept if text)))]
    bare = [text for text in kept if not _literal(text)]
    if len(bare) > 1:  # several unknown words say no more than one
        kept = [text for text in kept if text not in bare[1:]]
    return kept if len(kept) <= MOST else [_mark(_word(node))]


def _known(text: str) -> bool:
    """Return whether a text is known beforehand, or words of it are, be they ones that may be left out."""
    return OPEN not in text or _literal(text) or bool(re.search(r"[a-z]{2}", text))


def _literal(text: str) -> bool:
    """Return whether a text says a word that is known beforehand."""
    return bool(re.search(r"[A-Za-z0-9]", re.sub(f"{OPEN}.*?{CLOSE}", "", text)))


def _mark(word: str) -> str:
    return f"{OPEN}{word}{CLOSE}"


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
        return _mark("N")


def _called(call: ast.Call) -> str:
    return call.func.attr if isinstance(call.func, ast.Attribute) else getattr(call.func, "id", "")


def _word(node: ast.AST) -> str:
    """Return a word for what only a run knows."""
    found = _plain_word(node)
    return CALLED.get(found, found)


def _plain_word(node: ast.AST) -> str:
    if isinstance(node, ast.Name):
        return node.id.strip("_").upper().replace("_", "-")
    if isinstance(node, ast.Attribute):
        if node.attr == "__name__":
            return "TYPE"
        if node.attr in ("name", "value", "path", "folder") and isinstance(node.value, ast.Name | ast.Attribute):
            inner = _word(node.value)
            return inner if inner not in OBJECTS else node.attr.upper()
        return node.attr.strip("_").upper().replace("_", "-")
    if isinstance(node, ast.Subscript):
        if isinstance(node.value, ast.Attribute) and node.value.attr == "shape":
            return "N"
        if isinstance(node.slice, ast.Constant) and isinstance(node.slice.value, str):
            return node.slice.value.upper().replace("_", "-")
        return _word(node.value)
    if isinstance(node, ast.Call):
        name = _called(node)
        if name in SAME | {"type"} and node.args:
            return _word(node.args[0])
        if name in ("len", "sum"):
            return "N"
        if isinstance(node.func, ast.Attribute) and name in ("min", "max", "item", "upper", "lower", "strip"):
            return _word(node.func.value)
        return name.strip("_").upper().replace("_", "-")
    if isinstance(node, ast.BinOp):
        return _word(node.right) if isinstance(node.op, ast.Div) and isinstance(node.left, ast.Name) else "N"
    if isinstance(node, ast.Starred):
        return _word(node.value)
    if isinstance(node, ast.GeneratorExp | ast.ListComp):
        return _word(node.generators[0].iter)
    if isinstance(node, ast.IfExp):
        return _word(node.body)
    if isinstance(node, ast.BoolOp):
        return _word(node.values[0])
    if isinstance(node, ast.List | ast.Tuple) and node.elts:
        return _word(node.elts[0])
    return "..."


def _split(text: str) -> tuple[str, str]:
    """Split a sentence into what is wrong and the remedy, which stands behind the last semicolon outside brackets."""
    depth, places = 0, []
    for at, letter in enumerate(text):
        depth += letter in "([" and 1 or letter in ")]" and -1 or 0
        if letter == ";" and depth <= 0:
            places.append((at, 1))
    if not places:
        places = [(m.start(), 1) for m in re.finditer(rf": (?={OPEN}?{VERBS})", text)]
        places += [(m.start(), 1) for m in re.finditer(r", (?=or --arch)", text)]
    if not places:
        return text.rstrip("."), ""
    at, length = places[0]
    return text[:at], text[at + length :].strip()


@dataclass(frozen=True)
class _Place:
    """A call, and the function around it."""

    call: ast.Call
    module: Module
    inside: ast.FunctionDef | None


class Sentences:
    """Every sentence, from the calls that make errors and those of functions that are handed phrases."""

    def __init__(self, source: Source | None = None) -> None:
        self.source = source or Source()
        self.places = [
            _Place(node, module, module.inside.get(node))
            for module in self.source.modules.values()
            for node in module.calls
        ]
        self.inside: dict[int, list[_Place]] = {}
        for place in self.places:
            self.inside.setdefault(id(place.inside), []).append(place)
        self.targets = {id(place.call): self.source.resolve(place.module, place.call.func) for place in self.places}
        self.makers: set[tuple[str, str]] = set()
        self._kept: list[ast.Call] = []  # calls made here, which must live as long as what is known by their ids
        while True:
            found = {maker for maker in self._handed_phrases() if maker not in self.makers}
            if not found:
                break
            self.makers |= found

    def all(self) -> list[Sentence]:
        """Return them in the order of the source, each text once in a module."""
        found: dict[tuple[str, str], Sentence] = {}
        for place in self.places:
            if self._makes(place):
                followed = self._owner(place) in self.makers
                for text, code, cause in self._of(place, {}):
                    if not followed or self._stands_alone(place, text):
                        self._add(found, text, code, place, cause)
        for name, functions in RETURNED.items():
            module = self.source.modules[name]
            for function in functions:
                node = module.functions[function]
                for value in (n.value for n in ast.walk(node) if isinstance(n, ast.Return)):
                    for text in self.source.said(value, module, {}, node):
                        place = _Place(ast.Call(ast.Name(function), [], [], lineno=value.lineno), module, node)
                        self._add(found, text, 2, place, "")
        return list(found.values())

    def _add(self, found: dict[tuple[str, str], Sentence], text: str, code: int, place: _Place, cause: str) -> None:
        text = " ".join(text.split())
        if len(re.findall(r"[A-Za-z]{2,}", re.sub(f"{OPEN}.*?{CLOSE}", "", text))) < 2:
            return  # what somebody else said is passed on
        own = _comment(place.module, place.call) or cause
        about = _raises(place.inside), self._purpose(place)
        made = Sentence(text, code, place.module.name, place.call.lineno, own, *about)
        found.setdefault((place.module.name, text), made)

    # -- which calls make errors

    def _makes(self, place: _Place) -> bool:
        name = _called(place.call)
        target = self.targets[id(place.call)]
        known = name in self.source.errors or name in MADE_BY
        return (known and bool(place.call.args)) or (target is not None and (target[0].name, target[1]) in self.makers)

    def _owner(self, place: _Place) -> tuple[str, str] | None:
        """Return the maker that a call lies in: a function, or a class whose fields it reads."""
        if place.inside is None:
            return None
        own = place.module.name, place.inside.name
        if own in self.makers:
            return own
        fields = {
            n.attr
            for n in ast.walk(place.call)
            if isinstance(n, ast.Attribute) and getattr(n.value, "id", "") == "self"
        }
        for name, node in place.module.classes.items():
            if place.inside in node.body and fields and (place.module.name, name) in self.makers:
                return place.module.name, name
        return own

    def _handed_phrases(self) -> Iterator[tuple[str, str]]:
        """Yield functions and classes that make an error of what they are handed, where a call hands them a phrase."""
        uses: dict[tuple[str, str], set[str]] = {}
        for place in self.places:
            if not self._makes(place) or place.inside is None:
                continue
            if all(self._stands_alone(place, text) for text, _, _ in self._of(place, {})):
                continue
            names = {n.id for n in ast.walk(place.call) if isinstance(n, ast.Name)}
            fields = {
                n.attr
                for n in ast.walk(place.call)
                if isinstance(n, ast.Attribute) and getattr(n.value, "id", "") == "self"
            }
            given = {
                a.arg for a in [*place.inside.args.posonlyargs, *place.inside.args.args, *place.inside.args.kwonlyargs]
            }
            uses.setdefault((place.module.name, place.inside.name), set()).update(names & given - {"self"})
            for name, node in place.module.classes.items():
                if place.inside in node.body and node.decorator_list:
                    uses.setdefault((place.module.name, name), set()).update(fields)
        for place in self.places:
            target = self.targets[id(place.call)]
            key = (target[0].name, target[1]) if target else None
            if key in uses and any(_phrase(t) for name in uses[key] for t in self._bound(place, {}).get(name, ())):
                yield key

    def _bound(self, place: _Place, env: Env) -> dict[str, list[str]]:
        target = self.targets[id(place.call)]
        assert target is not None
        owner, name = target
        if name in owner.functions:
            return self.source.bound(place.call, owner.functions[name], place.module, env, place.inside, 0)
        fields = [
            n.target.id
            for n in owner.classes[name].body
            if isinstance(n, ast.AnnAssign) and isinstance(n.target, ast.Name)
        ]
        values = [*zip(fields, place.call.args, strict=False), *((k.arg, k.value) for k in place.call.keywords)]
        return {key: self.source.said(value, place.module, env, place.inside) for key, value in values if key}

    # -- what a call says

    def _of(self, place: _Place, env: Env, deep: int = 0) -> Iterator[tuple[str, int, str]]:
        """Yield the sentences of a call, their exit codes, and the causes that comments within makers give."""
        if any(isinstance(argument, ast.Starred) for argument in place.call.args):
            for row in self._rows(place):
                call = ast.copy_location(ast.Call(place.call.func, row, place.call.keywords), place.call)
                self.targets[id(call)] = self.targets[id(place.call)]
                self._kept.append(call)
                yield from self._of(_Place(call, place.module, place.inside), env, deep)
            return
        name = _called(place.call)
        if name in self.source.errors:
            for text in self.source.said(place.call.args[0], place.module, env, place.inside):
                yield text, self.source.errors[name], _comment(place.module, place.call)
            return
        if deep > DEEP:
            return
        if name in MADE_BY:
            owner, function = self.source.modules[MADE_BY[name][0]], MADE_BY[name][1]
            made = owner.functions[function]
            first = ast.Call(ast.Name(function), [ast.Name("file"), *place.call.args], place.call.keywords)
            yield from self._within(
                owner, made, self.source.bound(first, made, place.module, env, place.inside, 0), deep, place
            )
            return
        target = self.targets[id(place.call)]
        assert target is not None
        owner, name = target
        bound = self._bound(place, env)
        if name in owner.functions:
            yield from self._within(owner, owner.functions[name], bound, deep, place)
        else:
            fields = {f"self.{key}": values for key, values in bound.items()}
            for method in owner.classes[name].body:
                if isinstance(method, ast.FunctionDef):
                    yield from self._within(owner, method, fields, deep, place)

    def _rows(self, place: _Place) -> Iterator[list[ast.expr]]:
        """Yield the arguments of a call that unpacks a tuple of the module, or the rows of a table in a loop."""
        at = next(n for n, argument in enumerate(place.call.args) if isinstance(argument, ast.Starred))
        starred = place.call.args[at].value
        found = self.source.constant(place.module, starred.id) if isinstance(starred, ast.Name) else None
        tables = [found[1] for found in (found,) if found is not None]
        for loop in ast.walk(place.inside or ast.Module([], [])):
            if isinstance(loop, ast.For) and isinstance(starred, ast.Name):
                over = loop.iter.func if isinstance(loop.iter, ast.Call) else loop.iter
                over = over.value if isinstance(over, ast.Attribute) else over
                found = self.source.constant(place.module, over.id) if isinstance(over, ast.Name) else None
                if found and starred.id in {n.id for n in ast.walk(loop.target) if isinstance(n, ast.Name)}:
                    tables += found[1].values if isinstance(found[1], ast.Dict) else getattr(found[1], "elts", [])
        for row in tables:
            if isinstance(row, ast.Tuple):
                yield [*place.call.args[:at], *row.elts, *place.call.args[at + 1 :]]

    def _within(
        self, owner: Module, made: ast.FunctionDef, env: Env, deep: int, caller: _Place
    ) -> Iterator[tuple[str, int, str]]:
        for place in self.inside.get(id(made), ()):
            if not self._makes(place):
                continue
            if not all(self._stands_alone(place, text) for text, _, _ in self._of(place, {}, deep + 1)):
                for text, code, cause in self._of(place, env, deep + 1):
                    yield text, code, cause or _comment(owner, place.call)

    def _stands_alone(self, place: _Place, text: str) -> bool:
        return (place.inside is None or place.inside.name not in FOLLOWED) and _says_enough(text)

    def _purpose(self, place: _Place) -> str:
        """Return what the function around a call is for, or one that calls it; else the module."""
        seen: set[str] = set()
        pending = [place.inside] if place.inside else []
        while pending:
            node = pending.pop(0)
            if said := ast.get_docstring(node):
                return _first(said)
            seen.add(node.name)
            for other in self.places:
                if other.module is place.module and other.inside and other.inside.name not in seen:
                    target = self.targets[id(other.call)]
                    if target and target == (place.module, node.name):
                        pending.append(other.inside)
        return ""


def _says_enough(text: str) -> bool:
    """Return whether a sentence says by itself what is wrong and what to do, whatever its function is handed."""
    known = [re.sub(f"{OPEN}.*?{CLOSE}", "", part) for part in _split(text)]
    open_remedy = CLOSE in _split(text)[1] and not re.search(r"[A-Za-z]{2,}", known[1])
    return bool(set(re.findall(r"[a-z]{2,}", known[0])) - SMALL) and not open_remedy


def _phrase(text: str) -> bool:
    return " " in re.sub(f"{OPEN}.*?{CLOSE}", "", text).strip()


def _comment(module: Module, call: ast.AST) -> str:
    """Return the comment ``# Cause: ...`` above the statement of a call."""
    line = module.starts.get(getattr(call, "lineno", 0), 1) - 2
    block: list[str] = []
    while line >= 0 and module.lines[line].lstrip().startswith("#"):
        block.insert(0, module.lines[line].lstrip().removeprefix("#").strip())
        line -= 1
    text = " ".join(block)
    return text.partition("Cause: ")[2] if "Cause: " in text else ""


def _raises(node: ast.FunctionDef | None) -> str:
    """Return when a function raises one of our errors, as its docstring says."""
    said = (ast.get_docstring(node) or "") if node else ""
    found = re.search(r"Raises\n-+\n(?:.*\n)*?(?:UserError|Damaged|CallError|RunError)\n((?:    .*\n?)+)", said + "\n")
    return " ".join(found[1].split()) if found else ""


def _first(docstring: str) -> str:
    """Return a docstring's first paragraph."""
    return " ".join(docstring.split("\n\n")[0].split())
