"""The stored runs of an evaluation as it is now: those of its study, not of what was asked for there before."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy.typing as npt

from robustkit.base.errors import RunError
from robustkit.pipeline.results import build
from robustkit.pipeline.stored import read_study
from robustkit.records.cells import Cell
from robustkit.records.store import Store


class StudyStore(Store):
    """A store whose :meth:`cells`, and whose runs, are those that the numbers of its study are made of.

    Other records in the folder, of attacks or budgets that were asked for earlier, can still be loaded by their cell.
    """

    def cells(self) -> Iterator[Cell]:
        """Yield every cell of the study that has a record, in the order of their keys."""
        reading = _Reading(self.folder)
        study = read_study(self)
        planned = {cell.key: cell for cell in study.cells()}
        try:
            build(study, reading)
        except RunError:  # not done yet: what is there of the plan
            reading.seen.update({key: cell for key, cell in planned.items() if self.has_file(cell)})
        yield from (reading.seen[key] for key in sorted(reading.seen))


class _Reading(Store):
    """Notes which cells are read."""

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        self.seen: dict[str, Cell] = {}

    def _read(self, cell: Cell, skip: Sequence[str] = ()) -> tuple[dict[str, Any], dict[str, npt.NDArray[Any]]] | None:
        found = super()._read(cell, skip)
        if found is not None:
            self.seen[cell.key] = cell
        return found
