"""What the site has beside the pages of docs/, and how their links come right: hooks of MkDocs, named in mkdocs.yml.

Pages are written for GitHub, where README.md and the source are a link away. On the site

* README.md, CONTRIBUTING.md and the like are pages of their own; a link to any other file of the repository leads to a
  copy of it under ``files/``;
* ``methods.md``, ``options.md`` and ``troubleshooting.md`` are made anew, by what makes the files of these names, so
  that the site's tables are those of the registries of this very source;
* ``gallery.md`` shows every picture of docs/images with the page that it belongs to, and ``reference/`` has a page for
  each package, made by mkdocstrings from the docstrings;
* lists are as Markdown's first definition wants them: an empty line before, four spaces inside; a bar in a table's code
  has no backslash before it, which GitHub wants.

Nothing here imports torch.
"""

from __future__ import annotations

import importlib
import posixpath
import re
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from mkdocs.structure.files import File, Files

ROOT = Path(__file__).parents[1]
DOCS = ROOT / "docs"
ROOT_PAGES = {
    "README.md": "index.md",
    "CHANGELOG.md": "changelog.md",
    "CODE_OF_CONDUCT.md": "code-of-conduct.md",
    "CONTRIBUTING.md": "contributing.md",
    "SECURITY.md": "security.md",
}
LINK = re.compile(r"(!?\[[^\]]*\]\()([^)\s]+)(\))")
FENCED = re.compile(r"(^```.*?^```$)", re.M | re.S)
HIDDEN = ("commands", "schemas")  # packages that are not for use from Python


def on_files(files: Files, *, config: Any) -> Files:
    """Add the pages that are made, then a copy of each file of the repository that any page links to."""
    linked: set[Path] = set()
    for file in list(files.documentation_pages()):
        linked |= set(outside((DOCS / file.src_uri).read_text("utf-8"), DOCS / file.src_uri))
    made = dict(generated())
    for source in ROOT_PAGES:
        linked |= set(outside((ROOT / source).read_text("utf-8"), ROOT / source))
    for place, text in made.items():
        if old := files.get_file_from_path(place):
            files.remove(old)
        files.append(File.generated(config, place, content=text))
    for path in sorted(linked):
        place = f"files/{path.relative_to(ROOT).as_posix()}"
        files.append(File.generated(config, place, content=path.read_bytes()))
    return files


def on_page_markdown(markdown: str, *, page: Any, **_: Any) -> str:
    """Make the links of a page the site's, and its lists Markdown's."""
    source = next((ROOT / name for name, place in ROOT_PAGES.items() if place == page.file.src_uri), None)
    return bars(lists(moved(markdown, source or DOCS / page.file.src_uri, page.file.src_uri)))


def generated() -> Iterator[tuple[str, str]]:
    """Yield every page that is made, as its place on the site and its Markdown."""
    for source, place in ROOT_PAGES.items():
        yield place, (ROOT / source).read_text("utf-8")
    for path in (ROOT, DOCS):
        if str(path) not in sys.path:
            sys.path.insert(0, str(path))
    yield "methods.md", importlib.import_module("robustkit.commands.listing").markdown()
    yield "options.md", importlib.import_module("make_options").page()
    sentences = importlib.import_module("sentences").Sentences().all()
    yield "troubleshooting.md", importlib.import_module("make_troubleshooting").page(sentences)
    yield "gallery.md", gallery()
    yield from reference()


def gallery() -> str:
    """Return the page with every picture that a page shows, under the page's title."""
    parts = ["# Gallery\n\nEvery picture of these pages, with the page that says how it was made."]
    for path in [ROOT / "README.md", *sorted(DOCS.rglob("*.md"))]:
        text = path.read_text("utf-8")
        shown = re.findall(r"!\[([^\]]*)\]\(([^)]+)\)", text)
        if not shown:
            continue
        title = next(line[2:] for line in text.splitlines() if line.startswith("# "))
        where = ROOT_PAGES.get(path.name) or path.relative_to(DOCS).as_posix()
        parts.append(f"## {title}\n\nFrom [{title}]({where})")
        for said, target in shown:
            picture = posixpath.relpath((path.parent / target).resolve(), DOCS)
            parts.append(f"![{said}]({picture})\n\n*{said}*")
    return "\n\n".join(parts) + "\n"


def reference() -> Iterator[tuple[str, str]]:
    """Yield the pages of the API reference: one that names the packages with what each is for, and one for each."""
    floors = [room for rooms in importlib.import_module("make_architecture").floors() for room in rooms]
    shown = [room for room in floors if room.is_package and room.name not in HIDDEN]
    lines = [
        "# API reference",
        "",
        "Made from the docstrings. [python.md](../python.md) shows how the public functions, those of",
        "[`robustkit.api`](api.md), are used; everything else may change from one version to the next.",
        "",
        "| package | what it is |",
        "|---|---|",
    ]
    plain = importlib.import_module("make_architecture")._markup
    for room in shown:
        lines.append(f"| [robustkit.{room.name}]({room.name}.md) | {plain(room.title)} |")
        yield f"reference/{room.name}.md", f"# robustkit.{room.name}\n\n::: robustkit.{room.name}\n"
    yield "reference/index.md", "\n".join(lines) + "\n"


def outside(text: str, source: Path) -> Iterator[Path]:
    """Yield the files of the repository that a page links to and that are neither in docs/ nor pages."""
    for _, target, _ in LINK.findall(text):
        if "://" in target or target.startswith(("#", "mailto:")):
            continue
        path = (source.parent / target.partition("#")[0]).resolve()
        ours = path.is_file() and path.is_relative_to(ROOT) and not path.is_relative_to(DOCS)
        if ours and path.relative_to(ROOT).as_posix() not in ROOT_PAGES:
            yield path


def moved(text: str, source: Path, place: str) -> str:
    """Return a page with its links as they are on the site.

    Parameters
    ----------
    source : Path
        Where the text lies in the repository.
    place : str
        Where its page is on the site.
    """

    def link(found: re.Match[str]) -> str:
        target, _, anchor = found[2].partition("#")
        if not target or "://" in target or target.startswith("mailto:"):
            return found[0]
        path = (source.parent / target).resolve()
        if not path.is_relative_to(ROOT) or not path.exists():
            return found[0]  # a page that is made; else MkDocs says that it leads nowhere
        inside = path.relative_to(ROOT).as_posix()
        there = ROOT_PAGES.get(inside) or (
            path.relative_to(DOCS).as_posix() if path.is_relative_to(DOCS) else f"files/{inside}"
        )
        if path.is_dir():
            there = posixpath.join(there, "index.md")
        near = posixpath.relpath(there, posixpath.dirname(place) or ".")
        return found[1] + near + (f"#{anchor}" if anchor else "") + found[3]

    return "".join(part if part.startswith("```") else LINK.sub(link, part) for part in FENCED.split(text))


def lists(text: str) -> str:
    """Return a page whose lists have an empty line before them and four spaces for each level."""
    out: list[str] = []
    for part in FENCED.split(text):
        if part.startswith("```"):
            out.append(part)
            continue
        lines: list[str] = []
        for line in part.split("\n"):
            item = re.match(r"( {0,3})([*-]|\d+\.) ", line)
            before = lines[-1] if lines else ""
            if item and not item[1] and before.strip() and not re.match(r" *([*-]|\d+\.) |\s", before):
                lines.append("")
            lines.append("    " + line.lstrip() if item and len(item[1]) >= 2 else line)
        out.append("\n".join(lines))
    return "".join(out)


def bars(text: str) -> str:
    """Return a page whose tables have bars in code as they are meant, without the backslash before them."""
    return re.sub(
        r"^\|.*\|$", lambda row: re.sub(r"`[^`]*`", lambda code: code[0].replace("\\|", "|"), row[0]), text, flags=re.M
    )
