"""How further suites look: each has ``_suite_<name>.py`` beside this file, with tables and perhaps pictures."""

from __future__ import annotations

import importlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING

from robustkit.records.schema import Results
from robustkit.reports._files import write_bytes
from robustkit.reports._table import Table

if TYPE_CHECKING:
    from robustkit.records.store import Store
    from robustkit.reports._drawing import Drawing
    from robustkit.study.plan import Study

SUITES = (
    "audit",
    "detection",
    "ood",
    "calibration",
    "corruptions",
    "diversity",
    "certified",
    "smoothing",
    "pools",
)  # in reading order


@dataclass(frozen=True)
class Sheet:
    """A picture made of stored images, which ``results.json`` does not hold: its title, what it shows, its file."""

    title: str
    alt: str
    file: Path


def tables(results: Results, name: str) -> Iterator[Table]:
    """Yield the tables of a suite that ran: the one that bears its name first, then those that go into detail."""
    if results.get(name):
        yield from _module(name).tables(results)


def drawings(results: Results) -> Iterator[Drawing]:
    """Yield the figures of all suites that ran; ``kind`` is the suite."""
    for name in SUITES:
        module = _module(name) if results.get(name) else None
        if module is not None and hasattr(module, "drawings"):
            yield from module.drawings(results)


def write_sheets(study: Study, store: Store, out: Path) -> list[Path]:
    """Draw the pictures that are made of stored images; return the files."""
    written = []
    for name in SUITES:
        if (name in study.suites or name in study.suite_requests) and hasattr(_module(name), "sheets_of"):
            drawn: Iterator[tuple[Sheet, Drawing]] = _module(name).sheets_of(study, store)
            written += [write_bytes(out / sheet.file, drawing.png()) for sheet, drawing in drawn]
    return written


def sheets(results: Results, name: str, out: Path) -> list[Sheet]:
    """Return the pictures of a suite that :func:`write_sheets` drew below ``out``, by their whole path."""
    module = _module(name)
    named: list[Sheet] = module.sheets(results) if hasattr(module, "sheets") else []
    return [Sheet(s.title, s.alt, out / s.file) for s in named if (out / s.file).is_file()]


def _module(name: str) -> ModuleType:
    return importlib.import_module(f"robustkit.reports._suite_{name}")
