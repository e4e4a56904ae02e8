"""The folder of a search: whose it is until it is done, and how what was found takes the place of what was there.

Until a search is done everything of it is in ``search.progress``; the ensemble, the candidates and ``search.json`` of
an earlier one in the same folder stay whole.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from robustkit.base.files import write_json
from robustkit.ensembles.checkpoint import CANDIDATES
from robustkit.search._lab import asked_of, refuse

RECORD, PROGRESS = "search.json", "search.progress"
OURS = (RECORD, PROGRESS, CANDIDATES)  # what tells that a folder is that of a search
ASKED = "asked.json"  # in the progress: what the search was asked, and whose candidates it is to take the place of


class SearchFolder:
    """The folder of one search.

    Raises
    ------
    UserError
        If a search that differs was interrupted here. What one that is done left gives way.
    """

    def __init__(self, folder: Path, asked: Mapping[str, Any]) -> None:
        self.folder, self.progress = folder, folder / PROGRESS
        self.candidates = self.progress / CANDIDATES  # where they are until the search is done
        self._asked = mine = json.loads(json.dumps(asked))
        done = _read(folder / RECORD)
        stated = _read(self.progress / ASKED)
        self._replaced = {*_names(done.get("candidates")), *_names(stated.get("replaces"))}
        if (there := stated.get("asked")) is not None and not _same(there, mine, done):
            refuse(self.progress, mine, there)
        for path in sorted(self.progress.glob("*.pt")):
            left = asked_of(path)
            if left is not None and not _same(left, mine, done):
                refuse(path, mine, left)
            if left != mine and done:
                path.unlink(missing_ok=True)

    def begin(self) -> None:
        """Note whose candidates are trained from here on; before, the states of the method say whose they are."""
        replaced = [{"name": name} for name in sorted(self._replaced)]
        write_json(self.progress / ASKED, {"asked": self._asked, "replaces": replaced})

    def clear(self) -> None:
        """Take away the record of an earlier search: from here on the folder is not whole until :meth:`close`."""
        (self.folder / RECORD).unlink(missing_ok=True)

    def put(self, names: list[str]) -> None:
        """Put the candidates of those names in the place of what an earlier search left."""
        place = self.folder / CANDIDATES
        place.mkdir(exist_ok=True)
        for name in self._replaced - {*names}:
            shutil.rmtree(place / name, ignore_errors=True)
        for name in names:
            shutil.rmtree(place / name, ignore_errors=True)
            (self.candidates / name).replace(place / name)

    def close(self, record: Mapping[str, Any]) -> None:
        """Write the record: the search is done."""
        write_json(self.folder / RECORD, record)
        shutil.rmtree(self.candidates, ignore_errors=True)


def _same(left: Mapping[str, Any], mine: Mapping[str, Any], done: Mapping[str, Any]) -> bool:
    """Return whether a state is of this search, or of the one that is done here."""
    return left == mine or bool(done and all(done.get(name) == value for name, value in left.items()))


def _read(path: Path) -> dict[str, Any]:
    try:
        found = json.loads(path.read_text("utf-8"))
    except (OSError, ValueError):
        return {}
    return found if isinstance(found, dict) else {}


def _names(rows: Any) -> Iterator[str]:
    """Yield the names of candidates, those that are names of folders of their own."""
    for row in rows if isinstance(rows, list) else ():
        name = row.get("name") if isinstance(row, dict) else None
        if isinstance(name, str) and Path(name).name == name != "..":
            yield name
