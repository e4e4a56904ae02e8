"""Lines, bands, dots and markers of a panel: told apart by dash and shape as well as by colour."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from markupsafe import Markup

from robustkit.records.schema import Verdict
from robustkit.reports._charts._axis import Axis
from robustkit.reports._charts._svg import Point, area, dots, element, joined, line, number

COLOURS, DASHES, NO_COLOUR = 8, 7, -1  # classes c0 to c7 and d0 to d6 of the stylesheet; d0 is unbroken
# The markers k0, k1, ...: paths around (0, 0), about 9 pixels wide.
SHAPES = (
    "M4.5 0A4.5 4.5 0 1 1-4.5 0A4.5 4.5 0 1 1 4.5 0Z", "M-4-4H4V4H-4Z", "M0-5.5L5.5 0 0 5.5-5.5 0Z",
    "M0-5.5L5 3.5H-5Z", "M0 5.5L5-3.5H-5Z", "M-5-5L5-5 0 0 5 5-5 5 0 0Z", "M-2-5H2V-2H5V2H2V5H-2V2H-5V-2H-2Z",
    "M0-5L5-1 3 4.5H-3L-5-1Z",
)  # fmt: skip
OVER: dict[Verdict, str] = {
    "suspect": "M1.2 0A1.2 1.2 0 1 1-1.2 0A1.2 1.2 0 1 1 1.2 0Z", "invalid": "M-6-6L6 6M6-6L-6 6"
}  # fmt: skip
SHOWN: dict[Verdict, str] = {
    "trusted": "trusted: filled", "unchecked": "unchecked: hollow", "suspect": "suspect: hollow, a dot inside",
    "invalid": "invalid: crossed out",
}  # fmt: skip


@dataclass(frozen=True)
class Series:
    """How a series looks: its name, the places of its colour, dash and marker, and what may hide it."""

    name: str
    colour: int = 0
    dash: int = 0
    shape: int = 0
    heavy: bool = False
    keys: tuple[str, ...] = ()

    @property
    def classes(self) -> str:
        """The classes of its elements."""
        return " ".join(["series", f"c{self.colour % COLOURS}", *self.keys])


def numbered(names: Sequence[str], key: str) -> dict[str, Series]:
    """Return a series for each name, no two alike in colour, dash and marker, before there are 56."""
    return {
        name: Series(name, at, (at + at // COLOURS) % DASHES, (at + at // COLOURS) % len(SHAPES), keys=(f"{key}{at}",))
        for at, name in enumerate(names)
    }


def curve(d: str, of: Series, readable: bool = False) -> Markup:
    """Return a line; ``readable``: its own corners are what a reader walks through, since it has no markers."""
    if not d:
        return Markup("")
    look = f"{of.classes} line d{of.dash % DASHES}" + (" heavy" if of.heavy else "")
    return element("path", class_=look, d=d, data_name=of.name if readable else None)


def band(low: Sequence[Point], high: Sequence[Point], of: Series) -> Markup:
    """Return the area between two curves, or where there is one point only a line from the lower to the upper."""
    d = area(low, high)
    if not d and len(low) == 1 and low[0][1] is not None and high[0][1] is not None:
        return element("path", class_=f"{of.classes} whisker", d=line([low[0]]).removesuffix("h0") + _up(high[0][1]))
    look = f"{of.classes} band" + (" heavy" if of.heavy else "")
    return element("path", class_=look, d=d) if d else Markup("")


def _up(y: float) -> str:
    return f"V{number(y)}"


def marker(x: Axis, y: Axis, at: Point, of: Series, said: str, verdict: Verdict | None = None) -> Markup:
    """Return the marker of one point, and what it says; nothing where there is no number."""
    across, up = at
    if up is None or not math.isfinite(up):
        return Markup("")
    place = {"x": x.across(across), "y": y.up(up)}
    own = element("use", element("title", said), href=f"#k{of.shape % len(SHAPES)}", class_=verdict, **place)
    if verdict in OVER:
        own += element("use", href=f"#k-{verdict}", class_="over", **place)
    return own


def markers(of: Series, found: Sequence[Markup]) -> Markup:
    """Return the markers of a series as one group, which a reader walks through."""
    return element("g", *found, class_=of.classes, data_name=of.name) if any(found) else Markup("")


def definitions() -> Markup:
    """Return the shapes of all markers, which stand once in a page."""
    shapes = {f"k{at}": d for at, d in enumerate(SHAPES)} | {f"k-{verdict}": d for verdict, d in OVER.items()}
    paths = joined(element("path", id=name, d=d) for name, d in shapes.items())
    return element("svg", element("defs", paths), class_="markers", width=0, height=0, aria_hidden="true")


def swatch(of: Series, *, lined: bool = True, marked: bool = True, verdict: Verdict | None = None) -> Markup:
    """Return the picture of a series in a legend."""
    parts = []
    if lined:
        look = f"line d{of.dash % DASHES}" + (" heavy" if of.heavy else "")
        parts.append(element("path", class_=look, d="M1 7H35"))
    if marked:
        parts.append(element("use", href=f"#k{of.shape % len(SHAPES)}", class_=verdict, x=18, y=7))
        if verdict in OVER:
            parts.append(element("use", href=f"#k-{verdict}", class_="over", x=18, y=7))
    colour = "swatch" if of.colour == NO_COLOUR else f"swatch c{of.colour % COLOURS}"
    return element("svg", *parts, class_=colour, viewBox="0 0 36 14", width=36, height=14, aria_hidden="true")


def cloud(points: Sequence[Point], of: Series) -> Markup:
    """Return a dot for each point, round or square by the place of the series' marker."""
    look = f"{of.classes} dots {'square' if of.shape % 2 else 'round'}"
    d = dots(points)
    return element("path", class_=look, d=d, data_name=of.name) if d else Markup("")
