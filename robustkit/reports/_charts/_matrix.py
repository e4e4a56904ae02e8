"""Matrices as coloured cells with their numbers, in pixels that no screen shrinks."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

from markupsafe import Markup

from robustkit.reports._charts._chart import Entry, Panel
from robustkit.reports._charts._svg import element, joined, number
from robustkit.reports._format import NONE

LEVELS = 20  # classes h0 to h20 of the stylesheet
LETTER = 7.2  # pixels of a letter, on average and a little more
LONGEST = 20  # letters of a name; the rest of its middle is left out
CELL, ROW, SMALL = 40, 26, 13  # pixels: width and height of a cell with a number, side of one without
WIDTHS = {"minis": 190, "tiles": 320}  # pixels: those of one row stand below those of the next
Value = float | None


def matrix(
    ident: str, title: str, alt: str, rows: Sequence[object], columns: Sequence[object],
    values: Sequence[Sequence[Value]], text: Callable[[float], str], *, low: float = 0.0, high: float = 1.0,
    reverse: bool = False, written: bool = True, apart: bool = False, x: str = "", y: str = "", head: str = "",
) -> Panel:  # fmt: skip
    """Return a matrix (R, C) from the top left; a number that is not finite has no colour, and None and NaN no text.

    Parameters
    ----------
    text : callable
        From a value to what stands in its cell.
    low, high : float
        The range of values that the colours stand for, pale to dark; ``reverse``: dark to pale.
    written : bool
        Whether the numbers stand in the cells; if not, the cells are small, and pointing at one shows its number.
    apart : bool
        Whether the last row and column are set apart: they are the fused ensemble.
    x, y : str
        What columns and rows are.
    head : str
        What stands above the matrix, where that is not its whole title.
    """
    names, heads = [shortened(str(name)) for name in rows], [shortened(str(name)) for name in columns]
    wide, tall = (CELL, ROW) if written else (SMALL, SMALL)
    turned = max(map(len, heads), default=0) * LETTER > wide - 4
    left = max(map(len, names), default=0) * LETTER + 10 + (16 if y else 0)
    top = (max(map(len, heads), default=0) * LETTER * 0.75 + 12 if turned else 20) + (18 if x else 0)
    over = max(map(len, heads), default=0) * LETTER * 0.7 if turned else 0  # the last turned name sticks out
    width = math.ceil(left + wide * len(columns) + max(0.0, over - wide / 2) + 2)
    height = math.ceil(top + tall * len(rows) + 2)  # whole pixels: a browser would round them, and scale all
    cells = _written if written else _small
    made = cells(values, text, left, top, wide, tall, lambda v: level(v, low, high, reverse))
    texts = {"data_rows": "\n".join(map(str, rows)), "data_columns": "\n".join(map(str, columns))}
    svg = element(
        "svg", element("title", title, id=f"{ident}-t"), element("desc", alt, id=f"{ident}-d"), made,
        *_names(names, heads, left, top, wide, tall, turned),
        *_titles(x, y, left, top, wide * len(columns), tall * len(rows)),
        *(_fused(left, top, wide, tall, len(rows), len(columns)) if apart else ()),
        class_="matrix" if written else "matrix tiny", role="img", aria_labelledby=f"{ident}-t",
        aria_describedby=f"{ident}-d", width=number(width), height=number(height),
        viewBox=f"0 0 {number(width)} {number(height)}", data_left=number(left),
        data_top=number(top), data_wide=wide, data_tall=tall, data_x=x or None, data_y=y or None, **texts,
        data_values=None if written else "\n".join(_said(v, text) for row in values for v in row),
    )  # fmt: skip
    return Panel(head or title, svg, next((name for name, most in WIDTHS.items() if width <= most), "cells"))


def level(value: float, low: float, high: float, reverse: bool = False) -> int:
    """Return the level of a colour scale, from 0 to 20, that a value has."""
    share = (value - low) / (high - low) if high > low else 0.0
    place = round(LEVELS * min(1.0, max(0.0, share)))
    return LEVELS - place if reverse else place


def shortened(name: str, longest: int = LONGEST) -> str:
    """Return a name without its middle where it is too long for a label."""
    half = (longest - 3) // 2
    return name if len(name) <= longest else f"{name[:half]}...{name[-half:]}"


def scale(low: str, high: str, reverse: bool = False) -> Entry:
    """Return the entry of a legend that shows what the colours stand for."""
    order = range(LEVELS, -1, -1) if reverse else range(LEVELS + 1)
    boxes = [
        element("g", element("rect", x=6 * at, y=0, width=6, height=14), class_=f"h{own}")
        for at, own in enumerate(order)
    ]
    look = {"viewBox": f"0 0 {6 * (LEVELS + 1)} 14", "width": 6 * (LEVELS + 1), "height": 14, "aria_hidden": "true"}
    return Entry(element("svg", *boxes, class_="scale", **look), f"{low} to {high}")


def _said(value: Value, text: Callable[[float], str]) -> str:
    return NONE if value is None or math.isnan(value) else text(value)


def _written(
    values: Sequence[Sequence[Value]], text: Callable[[float], str], left: float, top: float, wide: int, tall: int,
    shade: Callable[[float], int],
) -> Markup:  # fmt: skip
    """Return a group for each cell, in reading order: its colour and its number."""
    cells = []
    for down, row in enumerate(values):
        for across, value in enumerate(row):
            x, y = left + across * wide, top + down * tall
            box = element("rect", x=number(x), y=number(y), width=wide - 1, height=tall - 1)
            said = element("text", _said(value, text), x=number(x + wide / 2), y=number(y + tall / 2), dy=".35em")
            look = "empty" if value is None or not math.isfinite(value) else f"h{shade(value)}"
            cells.append(element("g", box, said, class_=look))
    return element("g", *cells, class_="cells")


def _small(
    values: Sequence[Sequence[Value]], text: Callable[[float], str], left: float, top: float, wide: int, tall: int,
    shade: Callable[[float], int],
) -> Markup:  # fmt: skip
    """Return one path for each colour: hundreds of cells without a number in them."""
    by: dict[str, list[str]] = {}
    for down, row in enumerate(values):
        for across, value in enumerate(row):
            look = "empty" if value is None or not math.isfinite(value) else f"h{shade(value)}"
            by.setdefault(look, []).append(
                f"M{number(left + across * wide)} {number(top + down * tall)}h{wide}v{tall}h-{wide}z"
            )
    return joined(element("path", class_=look, d="".join(boxes)) for look, boxes in sorted(by.items()))


def _names(
    names: Sequence[str], heads: Sequence[str], left: float, top: float, wide: int, tall: int, turned: bool
) -> list[Markup]:
    """Return the names of rows and columns."""
    rows = [
        element("text", name, x=number(left - 6), y=number(top + (at + 0.5) * tall), dy=".35em")
        for at, name in enumerate(names)
    ]
    places = [(left + (at + 0.5) * wide, top - 6) for at in range(len(heads))]
    columns = [
        element("text", head, transform=f"translate({number(x)} {number(y)}) rotate(-45)")
        if turned
        else element("text", head, x=number(x), y=number(y))
        for head, (x, y) in zip(heads, places, strict=True)
    ]
    return [element("g", *rows, class_="rows"), element("g", *columns, class_="turned" if turned else "heads")]


def _titles(x: str, y: str, left: float, top: float, wide: float, tall: float) -> list[Markup]:
    """Return what columns and rows are."""
    found = [element("text", x, class_="what", x=number(left + wide / 2), y=12)] if x else []
    if y:
        found.append(element("text", y, class_="what", transform=f"translate(11 {number(top + tall / 2)}) rotate(-90)"))
    return found


def _fused(left: float, top: float, wide: int, tall: int, rows: int, columns: int) -> list[Markup]:
    """Return the lines that set the fused ensemble apart, which is the last row and column."""
    if rows < 2 or columns < 2:
        return []
    across, down = left + (columns - 1) * wide - 0.5, top + (rows - 1) * tall - 0.5
    d = f"M{number(left)} {number(down)}h{columns * wide}M{number(across)} {number(top)}v{rows * tall}"
    return [element("path", class_="apart", d=d)]
