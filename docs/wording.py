"""Texts in which what only a run knows is a word in capitals, between :data:`OPEN` and :data:`CLOSE`."""

from __future__ import annotations

import ast
import itertools
import re

from parsed import called

MOST = 12  # ways to say one sentence that are told apart; of more, what differs stands in capitals
SHORT = 12  # characters of a word that is told apart within a sentence
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


def joined(parts: list[list[str]]) -> list[str]:
    """Join alternatives: the longest in sentences of their own, the others beside each other, as in has/have."""
    parts = [[mark(_bare("/".join(part)))] if len(part) > 1 and max(map(len, part)) < SHORT else part for part in parts]
    several = sorted((at for at, part in enumerate(parts) if len(part) > 1), key=lambda at: -max(map(len, parts[at])))
    for at in several[1:]:
        parts[at] = [mark(_bare(" / ".join(parts[at])))]
    return ["".join(chosen) for chosen in itertools.product(*parts)]


def _bare(text: str) -> str:
    return text.replace(OPEN, "").replace(CLOSE, "")


def few(texts: list[str], node: ast.AST) -> list[str]:
    """Return the texts once each; what may be left out as one word, and of too many a word for the node they are of."""
    kept = list(dict.fromkeys(texts))
    if "" in kept and len(kept) > 1:  # what may be left out
        kept = [mark(_bare("/".join(text for text in kept if text)))]
    bare = [text for text in kept if not _literal(text)]
    if len(bare) > 1:  # several unknown words say no more than one
        kept = [text for text in kept if text not in bare[1:]]
    return kept if len(kept) <= MOST else [mark(word(node))]


def known(text: str) -> bool:
    """Return whether a text is known beforehand, or words of it are, be they ones that may be left out."""
    return OPEN not in text or _literal(text) or bool(re.search(r"[a-z]{2}", text))


def _literal(text: str) -> bool:
    """Return whether a text says a word that is known beforehand."""
    return bool(re.search(r"[A-Za-z0-9]", outside(text)))


def outside(text: str) -> str:
    """Return a text without the words that only a run knows."""
    return re.sub(f"{OPEN}.*?{CLOSE}", "", text)


def mark(text: str) -> str:
    """Return a word as one that only a run knows."""
    return f"{OPEN}{text}{CLOSE}"


def word(node: ast.AST) -> str:
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
            inner = word(node.value)
            return inner if inner not in OBJECTS else node.attr.upper()
        return node.attr.strip("_").upper().replace("_", "-")
    if isinstance(node, ast.Subscript):
        if isinstance(node.value, ast.Attribute) and node.value.attr == "shape":
            return "N"
        if isinstance(node.slice, ast.Constant) and isinstance(node.slice.value, str):
            return node.slice.value.upper().replace("_", "-")
        return word(node.value)
    if isinstance(node, ast.Call):
        name = called(node)
        if name in SAME | {"type"} and node.args:
            return word(node.args[0])
        if name in ("len", "sum"):
            return "N"
        if isinstance(node.func, ast.Attribute) and name in ("min", "max", "item", "upper", "lower", "strip"):
            return word(node.func.value)
        return name.strip("_").upper().replace("_", "-")
    if isinstance(node, ast.BinOp):
        return word(node.right) if isinstance(node.op, ast.Div) and isinstance(node.left, ast.Name) else "N"
    if isinstance(node, ast.Starred):
        return word(node.value)
    if isinstance(node, ast.GeneratorExp | ast.ListComp):
        return word(node.generators[0].iter)
    if isinstance(node, ast.IfExp):
        return word(node.body)
    if isinstance(node, ast.BoolOp):
        return word(node.values[0])
    if isinstance(node, ast.List | ast.Tuple) and node.elts:
        return word(node.elts[0])
    return "..."
