"""The store: one content-addressed record per cell (JSON + npz), written atomically, never pickled.

Never imports torch.
"""

from __future__ import annotations

import hashlib
import io
import json
import weakref
import zipfile
import zlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import fields
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from robustkit.base.errors import RunError, UserError
from robustkit.base.files import write_atomic, write_json
from robustkit.records import packing
from robustkit.records.cells import Cell, Facts, Run, images_of
from robustkit.records.samples import HERE, Floats, Ints, Samples
from robustkit.records.schema import SCHEMA_VERSION

STUDY = "study.json"
PACKED = ("attack", "transfer")  # kinds of cells whose images lie as what differs from the clean ones
AFTER = "packed_after"  # whether what was taken over from a smaller budget is that cell's image


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
        # The images of what was saved last, as long as a chain holds them: the next cell takes some of them over.
        self._recent: weakref.WeakValueDictionary[str, Floats] = weakref.WeakValueDictionary()
        self._originals: dict[tuple[str, str], dict[int, npt.NDArray[Any]]] = {}

    def __contains__(self, cell: object) -> bool:
        return isinstance(cell, Cell) and self.load(cell) is not None

    def has_file(self, cell: Cell) -> bool:
        """Return whether there is a record of a cell, whole or not: a quick look."""
        return self._path(cell, "json").is_file()

    def save(self, run: Run) -> None:
        """Write a run, replacing an earlier one of the same cell; its images packed where the clean ones are there."""
        arrays = run.samples.arrays()
        if run.cell.kind in PACKED and len(run.samples.examples):
            self._recent[run.cell.key] = run.samples.examples
            if packed := self._packed(run.cell, run.samples):
                del arrays["examples"]
                arrays |= packed
        self._write(run.cell, arrays, run.meta())

    def save_facts(self, facts: Facts) -> None:
        """Write what a probe noted, replacing earlier facts of the same cell."""
        self._write(facts.cell, facts.arrays, {"cell": facts.cell.to_json(), "seconds": facts.seconds})

    def load(self, cell: Cell, *, examples: bool = False) -> Run | None:
        """Return the stored run of a cell, or None if there is none that is whole.

        ``examples`` loads the perturbed images too; without it ``samples.examples`` is empty.
        """
        found = self._read(cell, () if examples else ("examples", AFTER, *packing.NAMES))
        if found is None:
            return None
        meta, arrays = found
        try:
            if packing.NAMES[0] in arrays:
                arrays["examples"] = self._unpacked(cell, arrays)
            samples = Samples(**{f.name: arrays.get(f.name, np.zeros((0,), np.float32)) for f in fields(Samples)})
            return Run(cell, samples, meta["seconds"], tuple(meta["warnings"]), meta["environment"])
        except (KeyError, TypeError):
            return None

    def beside(self) -> Store:
        """Return where clean images lie: in a folder of their own, since they are no cell that anybody asked for."""
        return Store(self.folder / "originals")

    def originals(self, data: str, version: str) -> dict[int, npt.NDArray[Any]]:
        """Return the clean images that are kept, by their sample's id: (C, H, W), uint8 or float32; empty: none."""
        if not self._originals.get((data, version)):
            facts = self.beside().load_facts(images_of(data, version))
            whole = facts is not None and {"ids", "images"} <= set(facts.arrays)
            pairs = zip(facts.arrays["ids"].tolist(), facts.arrays["images"], strict=True) if facts and whole else ()
            self._originals[data, version] = dict(pairs)
        return self._originals[data, version]

    def _packed(self, cell: Cell, samples: Samples) -> dict[str, npt.NDArray[Any]]:
        """Return the images of a run packed; nothing where the clean ones are not kept, or it would save nothing."""
        images = np.ascontiguousarray(samples.examples, np.float32)
        clean, lower = self._clean(cell, samples.ids[: len(images)], images.shape), self._lower(cell, len(images))
        if clean is None:
            return {}
        origin = clean if lower is None else _origin(clean, lower, samples.carried)
        packed = packing.pack(images, origin, cell.eps if cell.norm == "linf" else None)
        packed[AFTER] = np.array(lower is not None)
        return packed if sum(part.nbytes for part in packed.values()) < images.nbytes else {}

    def _unpacked(self, cell: Cell, arrays: Mapping[str, npt.NDArray[Any]]) -> Floats:
        """Return the images of a record; none where what they were made of is not whole any more."""
        shape = tuple(arrays[packing.NAMES[1]].tolist())
        none, clean = np.zeros((0, *shape[1:]), np.float32), self._clean(cell, arrays["ids"][: shape[0]], shape)
        lower = self._lower(cell, shape[0]) if arrays[AFTER] else None
        if clean is None or (arrays[AFTER] and lower is None):
            return none
        try:
            return packing.unpack(arrays, clean if lower is None else _origin(clean, lower, arrays["carried"]))
        except (ValueError, zlib.error):
            return none

    def _clean(self, cell: Cell, ids: Iterable[int], shape: Sequence[int]) -> Floats | None:
        """Return the clean images (N, C, H, W) that some were made of; None where one of them is not kept."""
        kept = self.originals(cell.data, cell.version)
        found = [image for id in ids if (image := kept.get(int(id))) is not None and image.shape == tuple(shape[1:])]
        if len(found) < shape[0]:
            return None
        images = np.stack(found)
        grey = images.dtype == np.uint8
        clean: Floats = np.divide(images, np.float32(255), dtype=np.float32) if grey else images.astype(np.float32)
        return clean

    def _lower(self, cell: Cell, n: int) -> Floats | None:
        """Return the first images of the cell that one took images over from; None where it has not so many."""
        images = self._recent.get(cell.after) if cell.after else None
        if cell.after and images is None:
            try:
                meta = json.loads((self.folder / f"{cell.after}.json").read_text("utf-8"))
                run = self.load(Cell.from_json(meta["cell"]), examples=True)
            except (OSError, ValueError, KeyError, TypeError):
                run = None
            images = run.samples.examples if run else None
        return images[:n] if images is not None and len(images) >= n else None

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


def _origin(clean: Floats, lower: Floats, carried: Ints) -> Floats:
    """Return what images (N, C, H, W) are told from: the clean ones, in place of which stand those taken over."""
    np.copyto(clean, lower, where=(carried[: len(clean)] != HERE)[:, None, None, None])
    return clean
