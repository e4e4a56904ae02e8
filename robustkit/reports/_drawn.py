"""Which figures lie there already: a note beside them of what they were drawn of, and of what they were then.

Drawing takes longer than all the rest of a report. What is drawn again of the same results, by the same source and the
same libraries with the same settings, is the same picture, so that it stays unless somebody has touched the files.
"""

from __future__ import annotations

import hashlib
import json
import os
import sys
from collections.abc import Iterable
from pathlib import Path

from robustkit.base import source
from robustkit.base.files import sha256_of, write_json
from robustkit.base.versions import installed
from robustkit.records.cells import digest
from robustkit.records.schema import Results

NOTE = ".drawn.json"


def drawn_of(results: Results) -> str | None:
    """Return a digest of all that figures depend on; None where results hold what is no JSON."""
    shown = {name: value for name, value in results.items() if name != "run"}  # when, and by which command
    try:
        return digest([shown, source.digest(), sys.version, installed(), _settings()])
    except (TypeError, ValueError):
        return None


def kept(folder: Path, of: str | None) -> list[Path]:
    """Return the figures of a folder where they were drawn of this and nobody has changed them since; else none."""
    try:
        note = json.loads((folder / NOTE).read_text("utf-8"))
        whole = all(sha256_of(folder / name) == sha for name, sha in note["files"].items())
        return [folder / name for name in note["files"]] if of in note["of"] and whole else []
    except (OSError, ValueError, KeyError, TypeError, AttributeError):  # no note, or not one of ours
        return []


def begin(folder: Path) -> None:
    """Forget what was drawn: a kill amid the next files leaves no note of others."""
    (folder / NOTE).unlink(missing_ok=True)


def note(folder: Path, of: Iterable[str | None], files: Iterable[Path]) -> None:
    """Note what the figures of a folder were drawn of, in each way that this can be said, as they are now."""
    digests = sorted({one for one in of if one is not None})
    if digests:
        write_json(folder / NOTE, {"of": digests, "files": {path.name: sha256_of(path) for path in files}})


def _settings() -> str:
    """Return what is set of matplotlib: in this program, where it has loaded it, else the files that it would read."""
    if (loaded := sys.modules.get("matplotlib")) is not None:
        return hashlib.sha256(repr(sorted(loaded.rcParams.items())).encode()).hexdigest()
    own = os.environ.get("MATPLOTLIBRC", "")
    home = os.environ.get("MPLCONFIGDIR") or os.path.join(
        os.environ.get("XDG_CONFIG_HOME") or os.path.expanduser("~/.config"), "matplotlib"
    )
    places = [Path(own), *(Path(place, "matplotlibrc") for place in (os.curdir, own, home))]
    return " ".join(sha256_of(path) for path in places if path.is_file())
