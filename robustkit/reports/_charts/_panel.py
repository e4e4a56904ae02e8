"""A panel with two axes: everything in it scales but texts, markers and strokes, so that it is legible anywhere.

Places in it are percentages of the panel. Lines are drawn in the axes' own units, so that their coordinates are the
numbers.
"""

from __future__ import annotations

from collections.abc import Sequence

from markupsafe import Markup

from robustkit.reports._charts._axis import Axis
from robustkit.reports._charts._chart import Panel
from robustkit.reports._charts._svg import element, joined, number


def panel(
    ident: str, title: str, alt: str, x: Axis, y: Axis, lines: Sequence[Markup], points: Sequence[Markup] = (),
    shape: str = "",
) -> Panel:  # fmt: skip
    """Return a panel.

    Parameters
    ----------
    ident : str
        Unique in the page.
    lines : sequence of markup
        Paths in the units of the two axes.
    points : sequence of markup
        What is placed in percentages, above the lines.
    shape : str
        ``tall``, ``square`` or ``small``.
    """
    units = " ".join(map(number, (x.low, -y.high, x.high - x.low, y.high - y.low)))
    inner = element(
        "svg", element("g", *lines, transform="scale(1 -1)"), class_="area", viewBox=units,
        preserveAspectRatio="none", width="100%", height="100%",
    )  # fmt: skip
    svg = element(
        "svg", element("title", title, id=f"{ident}-t"), element("desc", alt, id=f"{ident}-d"), *_frame(x, y), inner,
        *points, class_=f"plot {shape}".strip(), role="img", aria_labelledby=f"{ident}-t",
        aria_describedby=f"{ident}-d", data_x=x.title, data_y=y.title,
        data_x_scale=None if x.scale == 1 else number(x.scale), data_y_scale=None if y.scale == 1 else number(y.scale),
    )  # fmt: skip
    return Panel(title, svg, shape)


def _frame(x: Axis, y: Axis) -> list[Markup]:
    """Return grid, ticks and titles of both axes."""
    rows = [y.up(value) for value, _ in y.ticks]
    grid = joined(element("line", x1="0", x2="100%", y1=row, y2=row) for row in rows)
    left = joined(element("text", text, x="0", y=y.up(v), dx="-8", dy=".32em") for v, text in y.ticks)
    under = joined(element("text", text, x=x.across(v), y="100%", dy="1.5em") for v, text in x.ticks)
    return [
        element("g", grid, class_="grid"),
        element("line", class_="base", x1="0", x2="100%", y1="100%", y2="100%"),
        element("g", left, class_="left"),
        element("g", under, class_="under"),
        element("text", y.title, class_="y-title", x="0", y="0", dx="-2.2em", dy="-.8em"),
        element("text", x.title, class_="x-title", x="50%", y="100%", dy="3em"),
    ]


def reference(points: str) -> Markup:
    """Return a line that is no series: the diagonal of a ROC, zero gain."""
    return element("path", class_="reference", d=points)
