"""Find every sentence that robustkit can end with, in its source: what is wrong, the remedy, the cause.

Nothing is run. An error is a call of ``UserError``, ``RunError``, a class made of one of them, or ``Damaged``; its
message is worked out by :mod:`spoken`, and what only a run knows stands in capitals. A function that is handed a phrase
and makes an error of it is followed to its calls, so that ``refuse(path, "is empty")`` gives the sentence of the user's
terminal; functions that say enough by themselves are not.

The cause of a sentence is, in this order, a comment ``# Cause: ...`` above the statement that makes it, what the
docstring of the function says under *Raises*, or what the function is for.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from dataclasses import dataclass

from parsed import Module, called, cause_above, first_paragraph, when_raised
from spoken import DEEP, Env, Source
from wording import CLOSE, OPEN, outside

# What a function without an error of its own returns as the sentence of a command line.
RETURNED = {"robustkit.commands.options": ("sentence",)}
FOLLOWED = ("unknown",)  # functions whose sentences are told apart though they say enough by themselves
VERBS = "(?:did|Known|give|choose|use|write|upgrade|add|--)"  # with which a remedy begins behind a colon
SMALL = {"is", "are", "has", "have", "holds", "the", "of"}  # words that say nothing by themselves
# Damaged is the reason why a file is refused; the sentence is made where the file's name is known.
MADE_BY = {"Damaged": ("robustkit.auditing._limits", "refuse", ("path",))}


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
        if len(re.findall(r"[A-Za-z]{2,}", outside(text))) < 2:
            return  # what somebody else said is passed on
        own = cause_above(place.module, place.call) or cause
        about = when_raised(place.inside), self._purpose(place)
        made = Sentence(text, code, place.module.name, place.call.lineno, own, *about)
        found.setdefault((place.module.name, text), made)

    # -- which calls make errors

    def _makes(self, place: _Place) -> bool:
        name = called(place.call)
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
        name = called(place.call)
        if name in self.source.errors:
            for text in self.source.said(place.call.args[0], place.module, env, place.inside):
                yield text, self.source.errors[name], cause_above(place.module, place.call)
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
                    yield text, code, cause or cause_above(owner, place.call)

    def _stands_alone(self, place: _Place, text: str) -> bool:
        return (place.inside is None or place.inside.name not in FOLLOWED) and _says_enough(text)

    def _purpose(self, place: _Place) -> str:
        """Return what the function around a call is for, or one that calls it; else the module."""
        seen: set[str] = set()
        pending = [place.inside] if place.inside else []
        while pending:
            node = pending.pop(0)
            if said := ast.get_docstring(node):
                return first_paragraph(said)
            seen.add(node.name)
            for other in self.places:
                if other.module is place.module and other.inside and other.inside.name not in seen:
                    target = self.targets[id(other.call)]
                    if target and target == (place.module, node.name):
                        pending.append(other.inside)
        return ""


def _says_enough(text: str) -> bool:
    """Return whether a sentence says by itself what is wrong and what to do, whatever its function is handed."""
    known = [outside(part) for part in _split(text)]
    open_remedy = CLOSE in _split(text)[1] and not re.search(r"[A-Za-z]{2,}", known[1])
    return bool(set(re.findall(r"[a-z]{2,}", known[0])) - SMALL) and not open_remedy


def _phrase(text: str) -> bool:
    return " " in outside(text).strip()
