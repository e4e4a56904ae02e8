"""Natural corruptions in a report: tables, heatmaps, and a contact sheet of the stored images."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from robustkit.records.schema import Results
from robustkit.records.store import Store
from robustkit.reports import _contact, _corruption_maps, _corruptions
from robustkit.reports._drawing import Drawing
from robustkit.reports._format import slug
from robustkit.reports._suites import Sheet
from robustkit.reports._table import Table, cells
from robustkit.study.plan import Study


def tables(results: Results) -> Iterator[Table]:
    """Yield the summary of the natural corruptions, then accuracy by severity of each suite."""
    columns, rows, note, records = _corruptions.summary(results)
    align = "ll" + "r" * (len(columns) - 2)
    lines = [cells(*row) for row in rows]
    yield Table("corruptions", "Natural corruptions", columns, align, lines, note, 2, True, records)
    for name, title, columns, rows in _corruptions.details(results):
        align = "ll" + "r" * (len(columns) - 2)
        yield Table(name, title, columns, align, [cells(*row) for row in rows], "In %.", 2, True)


def drawings(results: Results) -> Iterator[Drawing]:
    """Yield a heatmap for each suite of corruptions."""
    for name, title, figure in _corruption_maps.heatmaps(results):
        yield Drawing(name, f"Heatmap. {title}", figure, "corruptions")


def sheets(results: Results) -> list[Sheet]:
    """Return the contact sheet of each suite of corruptions."""
    return [_sheet(suite) for suite in _corruptions.by_suite(results)]


def sheets_of(study: Study, store: Store) -> Iterator[tuple[Sheet, Drawing]]:
    """Draw the contact sheet of each suite whose cells kept an image."""
    for suite, figure in _contact.figures(study, store):
        sheet = _sheet(suite)
        yield sheet, Drawing(sheet.file.stem, sheet.alt, figure, "corruptions")


def _sheet(suite: str) -> Sheet:
    file = Path("figures") / f"{slug('contact-sheet', suite)}.png"
    return Sheet(f"{suite}: what the corruptions look like", f"{suite}: one image at every severity.", file)
