"""A small reader of the LaTeX that robustkit writes: is it sound, and what stands in its cells."""

from __future__ import annotations

import re

_PHANTOM = re.compile(r"\\phantom\{[^{}]*\}|\\rlap\{(?:[^{}]|\{[^{}]*\})*\}")
_TABULAR = re.compile(r"^\\begin\{tabular\}\{([^\n]*)\}\n(.*?)^\\end\{tabular\}", re.M | re.S)
_NESTED = re.compile(r"\\begin\{tabular\}\[b\]\{@\{\}\w@\{\}\}(.*?)\\end\{tabular\}")


def problems(text: str) -> list[str]:
    """Return what would keep a text from compiling: braces, environments, columns, specials; nothing if sound."""
    body = re.sub(r"(?m)^%.*\n", "", text)
    bare = re.sub(r"\\[\\{}%&#$_~^]", "", body)
    found, open_braces = [], 0
    for c in bare:
        open_braces += (c == "{") - (c == "}")
        if open_braces < 0:
            found.append("a brace too many is closed")
            break
    found += [f"{open_braces} braces are open"] if open_braces > 0 else []
    stack: list[str] = []
    for kind, name in re.findall(r"\\(begin|end)\{([^}]*)\}", body):
        if kind == "begin":
            stack.append(name)
        elif not stack or stack.pop() != name:
            found.append(f"{name} ends out of turn")
    found += [f"{name} does not end" for name in stack]
    found += ["% begins a comment"] * bare.count("%") + ["a bare #"] * bare.count("#")
    found += ["an odd number of $"] * (bare.count("$") % 2)
    words = re.sub(r"\\label\{[^}]*\}|\$[^$]*\$", "", bare)
    found += [f"a bare {c}" for c in "_^" if c in words]
    outside = re.sub(r"(?s)\\begin\{tabular\}.*?\n\\end\{tabular\}", "", bare)
    found += ["& outside a table"] * outside.count("&")
    for letters, rows in _TABULAR.findall(body):
        count = len(re.findall(r"[lcrp]", re.sub(r">\{[^}]*\}|\{[^}]*\}", "", letters)))
        widths = {len(row) for row in split(rows)}
        found += [f"rows of {sorted(widths)} cells in {count} columns"] if widths != {count} else []
    return found


def split(rows: str) -> list[list[str]]:
    """Return the rows of a tabular as LaTeX cells, its heads first."""
    text = _NESTED.sub(lambda m: m[1].replace(r"\\", " "), rows)
    lines = [line for line in text.splitlines() if line.endswith(r"\\")]
    return [re.split(r"(?<!\\)&", line.removesuffix(r"\\")) for line in lines]


def shown(cell: str) -> str:
    """Return what a cell shows, as text: without what only takes up room, and without marks."""
    text = _PHANTOM.sub("", cell)
    text = re.sub(r"\\multicolumn\{1\}\{c\}\{(.*)\}", r"\1", text.strip())
    text = re.sub(r"\\(?:textbf)\{([^}]*)\}", r"\1", text)
    for latex, plain in {r"\,": " ", "{,}": ",", "$-$": "-", "$+$": "+", r"$\pm$": "±", "$<$": "<", "--": "-"}.items():
        text = text.replace(latex, plain)
    text = text.replace(r"\allowbreak{}", "").replace(r"$\varepsilon$", "eps").removeprefix("{}")
    return " ".join(re.sub(r"\\([%&#$_{}])", r"\1", text).split())


def tables(text: str) -> dict[str, list[list[list[str]]]]:
    """Return the parts of each table by its label, each the rows of shown cells with its heads first."""
    found: dict[str, list[list[list[str]]]] = {}
    label = ""
    for block in re.split(r"(?=\\begin\{table\*?\})", text)[1:]:
        named = re.search(r"\\label\{tab:([^}]*)\}", block)
        label = named[1] if named else label
        found.setdefault(label, []).extend(
            [[shown(cell) for cell in row] for row in split(rows)] for _, rows in _TABULAR.findall(block)
        )
    return found
