"""Self-contained pages in the look that all share: nothing is loaded from elsewhere, and a policy in them forbids it.

A page is a template that extends ``_base.html.j2``. Styles and scripts are files beside the templates, put together
here and let through by their hashes alone; so no element may have a ``style`` or an ``on...`` attribute.
"""

from __future__ import annotations

import base64
import hashlib
import json
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from importlib.resources import files
from typing import TYPE_CHECKING, Any

from robustkit.reports import _format as f
from robustkit.reports._charts import definitions
from robustkit.reports._checks import reason
from robustkit.reports._labels import budget, budget_text
from robustkit.reports._table import Table

if TYPE_CHECKING:
    from jinja2 import Environment
    from markupsafe import Markup

MARKS = {"trusted": "\N{CHECK MARK}", "unchecked": "~", "suspect": "?", "invalid": "!"}
LEGEND = ", ".join(f"{mark} {verdict}" for verdict, mark in MARKS.items())  # what f.LEGEND says in a terminal
STYLES = ("_style.css", "_print.css")
EARLY, LATE = ("_theme.js",), ("_page.js",)  # scripts of every page: before its body is shown, and after it


@dataclass(frozen=True)
class Section:
    """A part of a page that folds: its anchor, its title, and what stands in it, escaped.

    Attributes
    ----------
    styles, scripts : tuple of str
        Files beside the templates that this part needs; a page takes each once.
    unfolded : bool
        Whether it is open from the start.
    """

    id: str
    title: str
    body: Markup
    unfolded: bool = False
    styles: tuple[str, ...] = ()
    scripts: tuple[str, ...] = ()


def page(
    template: str, title: str, sections: Sequence[Section] = (), styles: Sequence[str] = (),
    scripts: Sequence[str] = (), **shown: Any,
) -> str:  # fmt: skip
    """Return the text of a page from one of the package's templates; every value in it is escaped.

    ``styles`` and ``scripts`` are files beside the templates, beyond those of all pages and those of the sections.
    """
    own = [name for s in sections for name in s.styles], [name for s in sections for name in s.scripts]
    style = _together((*STYLES, *styles, *own[0])) + _running(title)
    early, late = _script(EARLY), _script((*LATE, *scripts, *own[1]))
    frame = {
        "title": title, "policy": _policy([style], [early, late]), "style": _safe(style), "early": _safe(early),
        "late": _safe(late),
    }  # fmt: skip
    return str(part(template, frame=frame, sections=sections, **shown))


def part(template: str, **shown: Any) -> Markup:
    """Return a piece of a page from a template, as the body of a :class:`Section`; every value in it is escaped."""
    return _safe(_environment().get_template(template).render(marks=MARKS, **shown))


def of_table(table: Table, unfolded: bool = False) -> Section:
    """Return a section of one table."""
    return Section(table.name, table.title, part("_table.html.j2", table=table), unfolded)


def data_block(anchor: str, value: Any) -> Markup:
    """Return a value as JSON that a script finds with ``JSON.parse(document.getElementById(anchor).textContent)``.

    It is no script, so that the policy lets it stand, and nothing in it can end the element.
    """
    text = json.dumps(value, separators=(",", ":"), ensure_ascii=False, allow_nan=False)
    for letter in "<>&":
        text = text.replace(letter, f"\\u{ord(letter):04x}")
    return _safe(f'<script type="application/json" id="{anchor}">{text}</script>')


def embedded(kind: str, content: bytes) -> str:
    """Return a file as an address that holds it: ``data:image/png;base64,...``."""
    return f"data:{kind};base64," + base64.b64encode(content).decode()


def _safe(text: str) -> Markup:
    from markupsafe import Markup

    return Markup(text)


@lru_cache(maxsize=1)
def _environment() -> Environment:
    import jinja2

    made = jinja2.Environment(
        loader=jinja2.PackageLoader("robustkit.reports._page"), autoescape=True, undefined=jinja2.StrictUndefined,
        trim_blocks=True, lstrip_blocks=True,
    )  # fmt: skip
    made.globals["marker_shapes"] = definitions
    made.filters |= {"percent": f.percent, "interval": f.interval, "number": f.number}
    made.filters["reason"] = reason
    made.filters["marked"] = lambda text: text.replace(f.LEGEND, LEGEND)
    made.filters["budget"] = lambda run: budget_text(*budget(run))
    return made


@lru_cache(maxsize=32)
def _file(name: str) -> str:
    return files("robustkit.reports._page").joinpath(f"templates/{name}").read_text("utf-8")


def _together(names: Iterable[str]) -> str:
    return "\n".join(_file(name) for name in dict.fromkeys(names))


def _script(names: Iterable[str]) -> str:
    """Return scripts as one; each has names of its own."""
    text = "\n".join(f'(() => {{\n"use strict";\n{_file(name)}}})();' for name in dict.fromkeys(names))
    if re.search(r"<(?:/script|script|!--)", text, re.IGNORECASE):
        raise ValueError("a script of a page holds what HTML reads as the end of it")
    return text


def _running(title: str) -> str:
    """Return what stands at the head of every printed page, as CSS: no letter of a title can end the string."""
    text = "".join(letter if letter.isascii() and letter.isalnum() else f"\\{ord(letter):x} " for letter in title)
    return f'\n@page {{ @top-left {{ content: "{text}"; }} }}\n'


def _policy(styles: Iterable[str], scripts: Iterable[str]) -> str:
    """Return the content-security policy of a page: pictures within it, these styles and scripts, and nothing else."""
    return "; ".join([
        "default-src 'none'", "img-src data:", "style-src " + " ".join(map(_hash, styles)),
        "script-src " + " ".join(map(_hash, scripts)), "base-uri 'none'", "form-action 'none'",
    ])  # fmt: skip


def _hash(text: str) -> str:
    return f"'sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}'"
