r"""How a table fits a page: how wide its columns are, which words wrap, and into which parts it is cut.

A table that needs no more than a column of a two-column paper is a ``table``, another a ``table*``, which is as wide as
the page in either kind of paper. What is wider than the text of LaTeX's article class is cut into parts that lie one
below the other and repeat the first columns; what is longer than a page goes on in further floats of the same number.
Widths are those of Computer Modern at ``\footnotesize``, in points; other fonts of papers are narrower.
"""

from __future__ import annotations

import math
import re
import unicodedata
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from robustkit.reports._table import Table
from robustkit.reports._tex_numbers import aligned
from robustkit.reports._tex_text import as_set

PAGE, COLUMN = 345.0, 240.0  # of the article class at 10 pt, and of a column of IEEE's and ACM's papers, points
GAP = 8.0  # between two columns: twice \tabcolsep
LINES = 40  # of a float, at most, its captions and notes aside
TALL = 28  # lines from which LaTeX has no room above text
LEAST = 55.0  # points of a column of words
LONG = 70.0  # a head's word that may break
# Of pdflatex and xelatex the wider: their underscores differ twofold.
_SETS = {
    2.4: "!',.:;[]`ijl| ", 2.6: "f", 2.8: "-", 3.4: "()Irst", 3.8: "cez", 4.3: "\"$*/0123456789\\ag{}o?",
    4.5: "J^bkpqvxy~–", 4.8: "Sdhnu", 5.5: "FLZ", 6.1: "BEPw", 6.4: "ADHNRUVXY_TC", 6.7: "&+<=>@GKOQ", 7.1: "#%m",
    7.8: "M", 8.8: "W→—", 11.4: "…",
}  # fmt: skip
_WIDTHS = {c: points for points, letters in _SETS.items() for c in letters}
_COMMANDS = re.compile(r"\\rlap\{[^}]*\}|\\[a-z]+|[${}^\\]")
_BREAKS = re.compile(r"(?<=[\s/_.=:-])")


@dataclass(frozen=True)
class Part:
    """Columns and rows of a table that are one tabular; a width makes its column one whose words wrap."""

    columns: list[int]
    widths: list[float | None]
    rows: range
    lines: int


@dataclass(frozen=True)
class Layout:
    """A table as floats of parts, and whether they are as wide as the page."""

    floats: list[list[Part]]
    wide: bool


def width(text: str) -> float:
    """Return how wide a text is, in points."""
    return sum(_WIDTHS.get(unicodedata.normalize("NFD", c)[:1], 6.8) for c in as_set(text))


def head_lines(head: str, room: float) -> list[str]:
    """Return a column's head as lines of at most that width, where its words allow it."""
    whole = re.split(r"\s+(?!%)", head.strip())  # a unit stays with what it is of
    words = [part for word in whole for part in _parts(word)]
    ends = [end for word in whole for end in [""] * (len(_parts(word)) - 1) + [" "]]
    lines = [words[0]] if words else [""]
    for word, joint in zip(words[1:], ends, strict=False):
        if width(lines[-1] + joint + word) <= room:
            lines[-1] += joint + word
        else:
            lines.append(word)
    return lines


def _parts(word: str) -> list[str]:
    return _BREAKS.split(word) if width(word) > LONG else [word]


def cell_texts(table: Table, at: int) -> list[str]:
    """Return the cells of a column as wide as they are set, numbers with what aligns them."""
    texts = [row[at].text for row in table.rows]
    if table.align[at] == "l":
        return [text.replace(" - ", " − ") for text in texts]
    return [_COMMANDS.sub("", _maths(cell)) for cell in aligned(texts)]


def _maths(cell: str) -> str:
    """Return a cell with the signs and spaces that commands of LaTeX stand for."""
    for command, sign in ((r"$\pm$", "±"), (r"\times", " × "), ("$-$", "−"), (r"\,", " ")):
        cell = cell.replace(command, sign)
    return cell


def layout(table: Table) -> Layout:
    """Lay a table out."""
    texts = [cell_texts(table, at) for at in range(len(table.columns))]
    content = [max(map(width, column), default=0.0) for column in texts]
    natural, least = [], []
    for at, head in enumerate(table.columns):
        own = max([content[at], *(width(line) for line in head_lines(head, 0.0))])
        words = max((width(w) for text in [head, *texts[at]] for w in _BREAKS.split(text)), default=0.0)
        natural.append(own)
        least.append(
            own if table.align[at] == "r" else min(own, max(LEAST, min(words, 2 * LEAST), min(own / 3, 130.0)))
        )
    groups = _groups(least, min(table.lead, len(least) - 1))
    rooms = [_rooms(table, group, natural, least) for group in groups]
    lines = [_lines(table, groups, rooms, row) for row in range(len(table.rows))]
    heads = [_head_height(table, group, room, natural) for group, room in zip(groups, rooms, strict=True)]
    floats: list[list[Part]] = []
    for rows in _chunks(table, lines, max(10, LINES // len(groups) - max(heads))):
        for group, room, height in zip(groups, rooms, heads, strict=True):
            part = Part(group, room, rows, height + sum(lines[row] for row in rows))
            if floats and sum(p.lines for p in floats[-1]) + part.lines <= LINES and floats[-1][0].rows == rows:
                floats[-1].append(part)
            else:
                floats.append([part])
    wide = len(groups) > 1 or sum(natural) + GAP * len(natural) > COLUMN
    return Layout(floats, wide)


def _groups(least: Sequence[float], lead: int) -> list[list[int]]:
    """Cut columns into as few parts as fit the page, as even as can be; each begins with the leading columns."""
    first, rest = list(range(lead)), list(range(lead, len(least)))
    room = PAGE - sum(least[at] + GAP for at in first)
    fewest = _filled(rest, least, room)
    while len(fewest) > 1 and room > 1 and len(_filled(rest, least, room - 1)) == len(fewest):
        room -= 1
    return [[*first, *group] for group in _filled(rest, least, room)]


def _filled(columns: Sequence[int], least: Sequence[float], room: float) -> list[list[int]]:
    found: list[list[int]] = [[]]
    for at in columns:
        if found[-1] and sum(least[c] + GAP for c in [*found[-1], at]) > room:
            found.append([])
        found[-1].append(at)
    return found


def _rooms(table: Table, group: Sequence[int], natural: Sequence[float], least: Sequence[float]) -> list[float | None]:
    """Return the width of each column of a part whose words have to wrap: as much of the page as there is."""
    over = sum(natural[at] + GAP for at in group) - PAGE
    if over <= 0:
        return [None] * len(group)
    low, high = 0.0, max(natural[at] for at in group)
    for _ in range(30):  # the width that the widest columns share
        middle = (low + high) / 2
        used = sum(min(natural[at], max(middle, least[at])) + GAP for at in group)
        low, high = (middle, high) if used <= PAGE else (low, middle)
    given = [min(natural[at], max(low, least[at])) for at in group]
    return [w if w < natural[at] and table.align[at] == "l" else None for at, w in zip(group, given, strict=True)]


def _lines(table: Table, groups: Sequence[Sequence[int]], rooms: Sequence[Sequence[float | None]], row: int) -> int:
    """Return how many lines a row takes in the part where it takes most."""
    heights = [
        math.ceil(1.15 * width(str(table.rows[row][at])) / room) if room else 1
        for group, own in zip(groups, rooms, strict=True)
        for at, room in zip(group, own, strict=True)
    ]
    return max([1, *heights])


def _head_height(table: Table, group: Sequence[int], rooms: Sequence[float | None], natural: Sequence[float]) -> int:
    lines = [len(head_lines(table.columns[at], room or natural[at])) for at, room in zip(group, rooms, strict=True)]
    return max(lines) + 1


def _chunks(table: Table, lines: Sequence[int], most: int) -> Iterator[range]:
    """Yield the rows of each float, at most so many lines; cut between groups where one ends in the latter half."""
    first = used = 0
    for row, own in enumerate(lines):
        if used + own > most and row > first:
            cut = next((at for at in range(row, first + (row - first) // 2, -1) if table.starts(at)), row)
            yield range(first, cut)
            first, used = cut, sum(lines[cut:row])
        used += own
    yield range(first, len(lines))
