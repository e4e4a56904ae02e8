"""SVG as text: escaped elements, and paths whose coordinates are the numbers that they show."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence

from markupsafe import Markup, escape

Point = tuple[float, float | None]  # no second number: nothing was measured there


def element(name: str, *children: str, **attributes: object) -> Markup:
    """Return an element; children that are no markup, and all attributes, are escaped.

    An attribute's name is written with ``_`` for ``-``, and with one behind it where it is a word of Python
    (``class_``). None leaves the attribute out.
    """
    head = "".join(
        f' {key.rstrip("_").replace("_", "-")}="{escape(value)}"'
        for key, value in attributes.items() if value is not None
    )  # fmt: skip
    body = "".join(escape(child) for child in children)
    return Markup(f"<{name}{head}>{body}</{name}>" if body else f"<{name}{head}/>")  # noqa: S704 (escaped above)


def joined(parts: Iterable[Markup]) -> Markup:
    """Return markup behind markup."""
    return Markup("").join(parts)


def number(value: float) -> str:
    """Return a coordinate, in six significant digits and no more characters than it takes.

    Raises
    ------
    ValueError
        If it is not finite: a browser drops all of a path behind such a number.
    """
    if not math.isfinite(value):
        raise ValueError(f"{value} is no coordinate")
    text = f"{value:.6g}"
    if text.startswith("0."):
        return text[1:]
    if text.startswith("-0."):
        return "-" + text[2:]
    return "0" if text == "-0" else text


def line(points: Iterable[Point]) -> str:
    """Return the path through points (x, y); one without a finite y, or x, leaves a gap."""
    return "".join(
        "M" + "L".join(f"{number(x)} {number(y)}" for x, y in run) + ("h0" if len(run) == 1 else "")
        for run in runs(points)
    )


def runs(points: Iterable[Point]) -> list[list[tuple[float, float]]]:
    """Return the points that stand beside each other without a gap."""
    found: list[list[tuple[float, float]]] = [[]]
    for x, y in points:
        if y is None or not math.isfinite(x) or not math.isfinite(y):
            found.append([])
        else:
            found[-1].append((x, y))
    return [run for run in found if run]


def steps(points: Sequence[Point]) -> str:
    """Return the path that keeps each height until the next point, like an empirical distribution."""
    corners: list[Point] = []
    for at, (x, y) in enumerate(points):
        if at and y is not None and points[at - 1][1] is not None:
            corners.append((x, points[at - 1][1]))
        corners.append((x, y))
    return line(corners)


def area(low: Sequence[Point], high: Sequence[Point]) -> str:
    """Return the closed path between two curves over the same x."""
    both = [(x, a, b) for (x, a), (_, b) in zip(low, high, strict=True) if a is not None and b is not None]
    around = [*((x, b) for x, _, b in both), *((x, a) for x, a, _ in reversed(both))]
    return line(around) + "Z" if len(both) > 1 else ""


def dots(points: Iterable[Point]) -> str:
    """Return the path of a dot at each point: lines of no length, whose round or square caps are the dots."""
    return "".join(f"M{number(x)} {number(y)}h0" for run in runs(points) for x, y in run)
