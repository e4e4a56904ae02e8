"""The same question again is answered from what was written: nothing is computed, so nothing is loaded. No torch here.

A command that is done leaves a note beside its runs: what was asked, of which versions, machine and input files, and
the size and time of every file it left. While all of that is as it was, ``results.json`` is the answer. Whatever
differs, or cannot be known without loading it, asks in the long way, which finds its cells in the store.
"""

from __future__ import annotations

import hashlib
import json
import os
import platform
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import robustkit
from robustkit.base import paths
from robustkit.base.configuration import Configuration
from robustkit.base.files import write_json
from robustkit.base.versions import versions
from robustkit.reports._evaluated import EvaluationResults, load_results
from robustkit.study.options_run import GATES

NOTE = Path("runs", "answered.json")
MOST = 20_000  # files that are looked at; more would take longer than what is saved
# Of these no number and no page depends: where the answer is written, and how loudly.
ASIDE = ("out", *GATES)
APART = re.compile(r"[,=:+]")  # what stands between names, values and paths in an option

Stamps = dict[str, list[int]]


def question(command: str, config: Configuration) -> str | None:
    """Return a digest of all that an answer depends on; None where that cannot be told without loading it."""
    asked = {name: value for name, value in config.resolved().items() if name not in ASIDE}
    stamps: Stamps = {}
    for path in (Path(robustkit.__file__).parent, paths.data_dir(), *_named(asked)):
        if not _stamp(path, stamps, str(path.resolve())):
            return None
    if "..." in _texts(asked) or any(_is_code(text) for text in _texts(asked)):
        return None
    whole = {
        "command": command, "asked": asked, "versions": versions(), "cache": str(paths.cache_dir()),
        "machine": [platform.node(), platform.machine(), sorted(map(str, Path("/dev").glob("nvidia*")))],
        "environment": {k: v for k, v in os.environ.items() if k.startswith(("ROBUSTKIT_", "CUDA_"))},
        "files": stamps,
    }  # fmt: skip
    return hashlib.sha256(json.dumps(whole, sort_keys=True).encode()).hexdigest()


def recall(asked: str | None, folder: Path) -> EvaluationResults | None:
    """Return the results of an equal command in this folder; None if there was none, or a file has changed since."""
    try:
        note = json.loads((folder / NOTE).read_text("utf-8"))
        if asked is None or note["question"] != asked or not _unchanged(folder, note["files"]):
            return None
    except (OSError, ValueError, KeyError, TypeError):  # no note, or not one of ours
        return None
    return load_results(folder)


def remember(asked: str | None, folder: Path) -> None:
    """Note that a folder holds the answer to a question, as its files are now."""
    stamps: Stamps = {}
    (folder / NOTE).unlink(missing_ok=True)
    if asked is not None and _stamp(folder, stamps):
        write_json(folder / NOTE, {"question": asked, "files": stamps})


def _unchanged(folder: Path, stamps: Stamps) -> bool:
    """Return whether every file that was noted is still there, of the same size and time."""
    return all(_facts(os.stat(folder / name)) == facts for name, facts in stamps.items())


def _facts(stat: os.stat_result) -> list[int]:
    return [stat.st_size, stat.st_mtime_ns]


def _stamp(path: Path, stamps: Stamps, prefix: str = "") -> bool:
    """Put the size and time of a file, or of all files below a folder, into ``stamps``; return False if too many."""
    if path.is_file():
        stamps[prefix] = _facts(path.stat())
        return True
    for place, folders, files in os.walk(path):
        folders[:] = sorted(name for name in folders if name != "__pycache__" and not name.startswith("."))
        for name in files:
            if not name.startswith("."):
                file = Path(place, name)
                stamps[str(Path(prefix, file.relative_to(path)))] = _facts(file.stat())
        if len(stamps) > MOST:
            return False
    return True


def _texts(value: Any) -> Iterator[str]:
    """Yield every text in plain JSON."""
    if isinstance(value, str):
        yield value
    elif isinstance(value, dict):
        for part in value.values():
            yield from _texts(part)
    elif isinstance(value, list):
        for part in value:
            yield from _texts(part)


def _named(asked: dict[str, Any]) -> Iterator[Path]:
    """Yield the files and folders that options name."""
    for text in _texts(asked):
        for part in {text, *APART.split(text)}:
            path = Path(part).expanduser()
            if part and path.exists():
                yield path


def _is_code(text: str) -> bool:
    """Return whether an option may name an object of Python, ``module:name``, whose code cannot be told from here."""
    head, colon, tail = text.partition(":")
    return bool(colon) and not any(Path(part).expanduser().exists() for part in (text, head, tail) if part)
