"""The store: one content-addressed record per cell (JSON + npz), written atomically, never pickled.

Never imports torch.
"""

from __future__ import annotations

import hashlib
import io
import json
import zipfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import fields
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from robustkit.base.errors import RunError, UserError
from robustkit.base.files import write_atomic, write_json
from robustkit.records.cells import Cell, Facts, Run
from robustkit.records.samples import Samples
from robustkit.records.schema import SCHEMA_VERSION

STUDY = "study.json"


class Store:
    """Runs in a folder: ``<key>.npz`` holds the samples, ``<key>.json`` the rest, written last.

    A record counts only if its JSON is there and names the hash of the npz beside it, so that a kill between the two
    writes, or a damaged file, leads to the cell being run again and never to a wrong number. So records need not be
    waited for until they are on the disk (:mod:`robustkit.base.syncing`): a process that is killed keeps every cell it
    has saved, a machine without power may lose the last few.
    """

    def __init__(self, folder: Path | str) -> None:
        self.folder = Path(folder)
        self.saved = False  # whether anything was written through this object

    def __contains__(self, cell: object) -> bool:
        return isinstance(cell, Cell) and self.load(cell) is not None

    def has_file(self, cell: Cell) -> bool:
        """Return whether there is a record of a cell, whole or not: a quick look."""
        return self._path(cell, "json").is_file()

    def save(self, run: Run) -> None:
        """Write a run, replacing an earlier one of the same cell."""
        self._write(run.cell, run.samples.arrays(), run.meta())

    def save_facts(self, facts: Facts) -> None:
        """Write what a probe noted, replacing earlier facts of the same cell."""
        self._write(facts.cell, facts.arrays, {"cell": facts.cell.to_json(), "seconds": facts.seconds})

    def load(self, cell: Cell, *, examples: bool = False) -> Run | None:
        """Return the stored run of a cell, or None if there is none that is whole.

        ``examples`` loads the perturbed images too; without it ``samples.examples`` is empty.
        """
        found = self._read(cell, () if examples else ("examples",))
        if found is None:
            return None
        meta, arrays = found
        try:
            samples = Samples(**{f.name: arrays.get(f.name, np.zeros((0,), np.float32)) for f in fields(Samples)})
            return Run(cell, samples, meta["seconds"], tuple(meta["warnings"]), meta["environment"])
        except (KeyError, TypeError):
            return None

    def get(self, cell: Cell) -> Run:
        """Return the stored run of a cell; a :class:`RunError` if it is not there."""
        run = self.load(cell)
        if run is None:
            # Cause: the evaluation was interrupted before it was done.
            raise RunError(
                f"the store '{self.folder}' lacks a cell ({cell.kind}); run the same `robustkit evaluate` again."
            )
        return run

    def load_facts(self, cell: Cell) -> Facts | None:
        """Return the stored facts of a probe, or None if there are none that are whole."""
        found = self._read(cell)
        return None if found is None else Facts(cell, found[1], found[0]["seconds"])

    def cells(self) -> Iterator[Cell]:
        """Yield every cell that has a record."""
        for path in sorted(self.folder.glob("*.json")):
            if path.name != STUDY:
                try:
                    yield Cell.from_json(json.loads(path.read_text("utf-8"))["cell"])
                except (OSError, ValueError, KeyError, TypeError):
                    continue

    def places(self) -> Iterator[tuple[Cell, float, Mapping[str, Any]]]:
        """Yield every cell that has a run, with its seconds and the environment that it ran in; no sample is read."""
        for path in sorted(self.folder.glob("*.json")):
            if path.name != STUDY:
                try:
                    meta = json.loads(path.read_text("utf-8"))
                    yield Cell.from_json(meta["cell"]), float(meta["seconds"]), meta["environment"]
                except (OSError, ValueError, KeyError, TypeError):  # facts of a probe have no environment
                    continue

    def __iter__(self) -> Iterator[Run]:
        for cell in self.cells():
            run = self.load(cell)
            if run is not None:
                yield run

    def _write(self, cell: Cell, arrays: Mapping[str, npt.NDArray[Any]], meta: Mapping[str, Any]) -> None:
        buffer = io.BytesIO()
        np.savez(buffer, **arrays)  # type: ignore[arg-type]
        content = buffer.getvalue()
        write_atomic(self._path(cell, "npz"), lambda stream: stream.write(content), beside=True)
        whole = {**meta, "schema_version": SCHEMA_VERSION, "npz_sha256": hashlib.sha256(content).hexdigest()}
        write_json(self._path(cell, "json"), whole, beside=True)
        self.saved = True

    def _read(self, cell: Cell, skip: Sequence[str] = ()) -> tuple[dict[str, Any], dict[str, npt.NDArray[Any]]] | None:
        """Return the record of a cell and its arrays but those to skip, or None where they are not whole."""
        try:
            meta: dict[str, Any] = json.loads(self._path(cell, "json").read_text("utf-8"))
            content = self._path(cell, "npz").read_bytes()
            if meta["schema_version"] != SCHEMA_VERSION or Cell.from_json(meta["cell"]) != cell:
                return None
            if hashlib.sha256(content).hexdigest() != meta["npz_sha256"]:
                return None
            with np.load(io.BytesIO(content), allow_pickle=False) as arrays:
                return meta, {name: arrays[name] for name in arrays.files if name not in skip}
        except (OSError, ValueError, KeyError, TypeError, zipfile.BadZipFile):
            return None

    def _path(self, cell: Cell, suffix: str) -> Path:
        return self.folder / f"{cell.key}.{suffix}"


def open_runs(path: Path | str) -> Store:
    """Return the store of a results folder, given the folder or its ``runs/``; a :class:`UserError` if it has none."""
    folder = Path(path)
    for candidate in (folder / "runs", folder):
        if (candidate / STUDY).is_file():
            return Store(candidate)
    # Cause: the folder is not one that an evaluation wrote, or only its report was copied.
    raise UserError(f"'{path}' holds no runs; give the --out folder of a `robustkit evaluate` (it holds runs/{STUDY}).")
