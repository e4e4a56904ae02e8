"""What the pages show: their commands, joined over broken lines, and their blocks of code."""

from __future__ import annotations

import re
import textwrap
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[2]
# What a person types begins with one of these, or sets a variable.
PROGRAMS = (
    "robustkit", ".venv/bin/robustkit", "python", "python3", ".venv/bin/python", "pip", "pytest", "nox", "bash", "git",
    "ls", "ray", "torchrun", "export", "source",
)  # fmt: skip
CODE = re.compile(r"(?<!`)`([^`\n]+)`(?!`)")
STARTS = re.compile(rf"(?:\$ )?(?:[A-Za-z_]+=\S+ )*({'|'.join(map(re.escape, PROGRAMS))}|common=\S*)(?= |$)")


@dataclass(frozen=True)
class Shown:
    """A command, a block of Python or a file on a page, with the line that it stands on."""

    page: str
    line: int
    text: str
    kind: str = "command"
    file: str = ""

    def __str__(self) -> str:
        return f"{self.page}:{self.line}: {self.text}"


def pages() -> list[Path]:
    """Return every page of a person's making: not the history, nor what is made of the source."""
    made = {"architecture.md", "methods.md", "options.md", "troubleshooting.md", "CHANGELOG.md"}
    every = [*sorted(ROOT.glob("*.md")), *sorted((ROOT / "docs").rglob("*.md"))]
    return [page for page in every if page.name not in made]


def name(page: Path) -> str:
    """Return a page's path in the repository."""
    return page.relative_to(ROOT).as_posix()


def blocks(page: Path) -> Iterator[tuple[str, int, str, str]]:
    """Yield language, line, text and the comment above of each block; an indented one has the language ``indented``."""
    lines = page.read_text("utf-8").split("\n")
    at = 0
    while at < len(lines):
        fence = re.match(r"( *)```(\w*)$", lines[at])
        above = lines[at - 1] if at else ""
        if fence:
            end = next(i for i in range(at + 1, len(lines)) if lines[i].strip() == "```")
            yield fence[2], at + 2, textwrap.dedent("\n".join(lines[at + 1 : end])), above
            at = end + 1
        elif lines[at].startswith("    ") and not above.strip():
            end = at
            while end < len(lines) and (lines[end].startswith("    ") or not lines[end].strip()):
                end += 1
            first = at + 1
            for part in re.split(r"\n(?:[ ]*\n)+", "\n".join(lines[at:end]).rstrip()):
                yield "indented", first, textwrap.dedent(part), above
                first = lines.index(part.split("\n")[-1], first - 1) + 3
            at = end
        else:
            at += 1


def shown(page: Path) -> list[Shown]:
    """Return what a page shows, in its order: commands, blocks of Python, and files, which begin with their name."""
    found: list[Shown] = []
    for language, line, text, _ in blocks(page):
        file = re.match(r"# (\S+\.(?:py|toml))\n", text)
        if file:
            found.append(Shown(name(page), line, text, "file", file[1]))
        elif language == "python" or (language == "indented" and re.match(r"from robustkit|import |with ", text)):
            found.append(Shown(name(page), line, text, "python"))
        elif language == "bash" or (language == "indented" and STARTS.match(text)):
            found += _commands(name(page), line, text)
    return found


def _commands(page: str, line: int, text: str) -> Iterator[Shown]:
    """Yield the commands of a block, each on one line; what is printed between them is none."""
    joined = re.sub(r"\\\n\s*", " \v", text)
    for one in joined.split("\n"):
        if STARTS.match(one):
            yield Shown(page, line, " ".join(one.replace("\v", "").split()))
        line += 1 + one.count("\v")


def commands(page: Path) -> list[Shown]:
    """Return the commands of a page."""
    return [one for one in shown(page) if one.kind == "command"]
