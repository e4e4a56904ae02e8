"""What a chart is, as the page's template takes it: panels of SVG, a legend, and tables with the same numbers."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from markupsafe import Markup

from robustkit.reports._table import Table


@dataclass(frozen=True)
class Entry:
    """One line of a legend; ``key`` is the class of what it stands for, where a reader may hide that."""

    swatch: Markup
    text: str
    key: str = ""


@dataclass(frozen=True)
class Panel:
    """One drawing; ``shape`` is a class that says how large it wants to be."""

    title: str
    svg: Markup
    shape: str = ""


@dataclass(frozen=True)
class Chart:
    """A chart of the page.

    Attributes
    ----------
    name : str
        Unique in the page, and that of the figure for papers that shows the same.
    kind : str
        Where it stands: ``curves``, ``transfer``, or a suite.
    alt : str
        What it shows, for who cannot see it.
    legend : sequence of (str, list of Entry)
        Entries by heading, which may be empty.
    tables : sequence of Table
        The numbers of the chart.
    shown : sequence of str
        Tables of the report, by their names, that hold the numbers as well: they stand beside the chart.
    """

    name: str
    kind: str
    title: str
    alt: str
    panels: Sequence[Panel]
    legend: Sequence[tuple[str, list[Entry]]] = ()
    tables: Sequence[Table] = ()
    shown: Sequence[str] = ()
    note: str = ""
    data: dict[str, str] = field(default_factory=dict)
