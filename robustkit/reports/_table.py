"""One table of a report, as any renderer takes it: formatted cells, and the raw records that they come from."""

from __future__ import annotations

from dataclasses import dataclass, field
from itertools import groupby
from typing import Any

from robustkit.records.schema import Verdict
from robustkit.reports import _format as f


@dataclass(frozen=True)
class Cell:
    """One formatted cell; ``verdict`` puts a mark beside the number, ``hint`` says why.

    ``number`` is the number that the text begins with, in full precision: what is averaged over seeds. ``why`` is where
    a page explains the verdict (an anchor), ``said`` that reason in a few words.
    """

    text: str
    verdict: Verdict | None = None
    hint: str = ""
    number: f.Number | None = None
    why: str = ""
    said: str = ""

    def __str__(self) -> str:
        return f"{self.text} {f.MARKS[self.verdict]}" if self.verdict else self.text


@dataclass(frozen=True)
class Table:
    """A table that any renderer can write.

    Attributes
    ----------
    name : str
        Its file name, without ending.
    align : str
        One letter per column, ``l`` (text) or ``r`` (numbers).
    lead : int
        The first columns that say what a row is about.
    grouped : bool
        Whether rows with the same first cell belong together.
    records : list of dict
        The raw values in long format, one dict per row of the CSV file; empty where another table has them.
    """

    name: str
    title: str
    columns: list[str]
    align: str
    rows: list[list[Cell]]
    note: str = ""
    lead: int = 1
    grouped: bool = False
    records: list[dict[str, Any]] = field(default_factory=list)

    def starts(self, index: int) -> bool:
        """Tell whether row ``index`` is the first of a group and not the first of the table."""
        return self.grouped and index > 0 and self.rows[index][0] != self.rows[index - 1][0]

    @property
    def above(self) -> int:
        """How many of the columns that lead stand above their rows, where several rows share them, else none."""
        first = max(self.lead - 1, 0)
        return first if 2 * len(list(groupby(self.rows, lambda row: row[:first]))) <= len(self.rows) else 0

    def bands(self) -> list[tuple[str, list[list[Cell]]]]:
        """Return rows by the columns :attr:`above` them: ``eps 4/255`` and its rows; one nameless band of all."""
        above = self.above

        def about(row: list[Cell]) -> str:
            return ", ".join(f"{name} {one.text}" for name, one in zip(self.columns[:above], row, strict=False))

        return [(text, list(rows)) for text, rows in groupby(self.rows, about)]


def cells(*texts: str) -> list[Cell]:
    """Return formatted cells of plain texts."""
    return [Cell(text, number=f.as_number(text)) for text in texts]
