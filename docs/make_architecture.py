"""Make ``docs/architecture.md`` and its picture from the contracts and the packages themselves.

``python docs/make_architecture.py`` writes both; a test holds them equal to what this makes. The floors are those of
``[tool.importlinter]`` in ``pyproject.toml``, the words those of each package's docstring.
"""

from __future__ import annotations

import ast
import re
import sys
import textwrap
from dataclasses import dataclass
from pathlib import Path
from xml.sax.saxutils import escape

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

ROOT = Path(__file__).parents[1]
PAGE, PICTURE = ROOT / "docs" / "architecture.md", ROOT / "docs" / "images" / "floors.svg"


@dataclass(frozen=True)
class Room:
    """A package, or a module that stands beside the packages: its name and its docstring's blocks."""

    name: str
    blocks: tuple[str, ...]
    is_package: bool

    @property
    def title(self) -> str:
        """The first sentence, without its full stop."""
        return re.split(r"[.;](?:\s|$)", self.blocks[0])[0]

    @property
    def paragraph(self) -> str:
        """What the docstring says first: its first line and, of a package, the paragraph below it."""
        return " ".join(self.blocks[: 2 if self.is_package else 1])


def floors(root: Path = ROOT) -> list[list[Room]]:
    """Return what stands on each floor, from the top; what the contract calls optional, if it is there."""
    contracts = tomllib.loads((root / "pyproject.toml").read_text())["tool"]["importlinter"]["contracts"]
    layers = next(contract["layers"] for contract in contracts if contract["type"] == "layers")
    named = [[name.strip() for name in layer.split("|")] for layer in layers]
    there = [[room(root / "robustkit", name.strip("()")) for name in layer if _is_there(root, name)] for layer in named]
    return [rooms for rooms in there if rooms]


def _is_there(root: Path, name: str) -> bool:
    """Whether something stands in a place; only one in parentheses may be empty."""
    return not name.startswith("(") or (root / "robustkit" / name.strip("()")).exists()


def room(package: Path, name: str) -> Room:
    """Read a room's docstring, without importing it."""
    is_package = (package / name).is_dir()
    file = package / name / "__init__.py" if is_package else package / f"{name}.py"
    said = ast.get_docstring(ast.parse(file.read_text())) or ""
    return Room(name, tuple(" ".join(block.split()) for block in said.split("\n\n")), is_package)


def markdown(stack: list[list[Room]]) -> str:
    """Return the page."""
    lines = [
        "# Architecture",
        "",
        "Where everything lives, from what a person types down to what everything stands on. A package imports only",
        "what stands on the floors below it, and two on one floor know nothing of each other; `lint-imports` checks",
        "that, from the contracts in [pyproject.toml](../pyproject.toml).",
        "",
        "![The packages on their floors: each imports only what stands below it](images/floors.svg)",
        "",
        "Made from those contracts and from the packages' own docstrings by `python docs/make_architecture.py`; a test",
        "checks it. How to add a method: [extend.md](extend.md).",
    ]
    for rooms in stack:
        for one in rooms:
            lines += ["", f"## {_place(one)}", "", *textwrap.wrap(_markup(one.paragraph), 120, break_on_hyphens=False)]
    return "\n".join(lines) + "\n"


def _place(one: Room) -> str:
    return f"robustkit/{one.name}/" if one.is_package else f"robustkit/{one.name}.py"


def _markup(text: str) -> str:
    """Turn the markup of docstrings into that of Markdown."""
    text = re.sub(r":\w+:`~?([^`]+)`", r"`\1`", text)
    return text.replace("``", "`")


WIDTH, LEFT, GAP, PAD = 1000, 68, 12, 12  # px: of the picture, of its left margin, between boxes, inside a box
LINE, HEAD, BETWEEN = 15, 22, 14  # px: a line of the words, the name above them, from floor to floor
CHARACTER = 6.8  # px: the mean width of a character at 12 px, in a wide typeface
SHADES = ("#f3f0fa", "#e8f1fb", "#e6f5f0", "#fdf3e1")  # from the top
EDGES = ("#8b74c9", "#4a86c5", "#3d9c7c", "#c9952f")


def svg(stack: list[list[Room]]) -> str:
    """Return the picture: a row of boxes for each floor, the ground at the bottom."""
    y, parts = 16, []
    for at, rooms in enumerate(stack):
        shade = at * len(SHADES) // len(stack)
        wide = (WIDTH - LEFT - GAP - GAP * (len(rooms) - 1)) / len(rooms)
        words = [textwrap.wrap(_plain(one.title), int((wide - 2 * PAD) / CHARACTER)) for one in rooms]
        high = 2 * PAD + HEAD - 4 + LINE * max(len(lines) for lines in words)
        parts.append(f'<text class="floor" x="{LEFT - 14}" y="{y + high / 2 + 4:g}">{len(stack) - 1 - at}</text>')
        for i, (one, lines) in enumerate(zip(rooms, words, strict=True)):
            parts += _box(one, lines, LEFT + i * (wide + GAP), y, wide, high, shade)
        y += high + BETWEEN
    height = y - BETWEEN + 16
    arrow = f'<path class="arrow" d="M28 20V{height - 18}m-5 -8l5 8l5 -8"/>'
    turned = f'<text class="floor" transform="translate(19 {height / 2:g}) rotate(-90)" style="text-anchor:middle">'
    return "\n".join([
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height}" width="{WIDTH}" height="{height}" '
        'role="img" font-family="Helvetica, Arial, sans-serif">',
        "<title>The packages of robustkit on their floors: each imports only what stands below it</title>",
        "<style>.name{font-size:15px;font-weight:bold;fill:#1f2430}.word{font-size:12px;fill:#4a5162}"
        ".floor{font-size:12px;fill:#8a91a0;text-anchor:end}.arrow{fill:none;stroke:#8a91a0;stroke-width:1.5}</style>",
        f'<rect width="{WIDTH}" height="{height}" rx="8" fill="#ffffff"/>',
        arrow,
        f"{turned}imports</text>",
        *parts,
        "</svg>\n",
    ])  # fmt: skip


def _box(one: Room, lines: list[str], x: float, y: float, wide: float, high: float, shade: int) -> list[str]:
    name = one.name if one.is_package else f"{one.name}.py"
    return [
        f'<rect x="{x:g}" y="{y:g}" width="{wide:g}" height="{high:g}" rx="6" '
        f'fill="{SHADES[shade]}" stroke="{EDGES[shade]}"/>',
        f'<text class="name" x="{x + PAD:g}" y="{y + PAD + 12:g}">{escape(name)}</text>',
        *(
            f'<text class="word" x="{x + PAD:g}" y="{y + PAD + HEAD + 10 + LINE * i:g}">{escape(line)}</text>'
            for i, line in enumerate(lines)
        ),
    ]


def _plain(text: str) -> str:
    """Return text without markup."""
    return _markup(text).replace("`", "")


def main() -> None:
    """Write the page and its picture."""
    stack = floors()
    PAGE.write_text(markdown(stack))
    PICTURE.write_text(svg(stack))


if __name__ == "__main__":
    main()
