"""The same question again is answered from what was written: nothing is computed, so nothing is loaded. No torch here.

A command that is done leaves a note beside its runs: what was asked, of which versions, machine and input files, and
the size and times of every file it left. While all of that is as it was, ``results.json`` is the answer. Whatever
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
PYTHON = re.compile(r"\.py\b")
KINDS = ("npz", "imagefolder", "idx", "genotype", "near", "far")  # what may stand before ":" and is no code
BESIDE = (".json", ".safetensors", ".bin")  # what is read beside a file: the other shards, or what describes them
SEVERAL = 64  # parts of an option of which every run of neighbours is tried as a path

Stamps = dict[str, list[int]]


def question(command: str, config: Configuration) -> str | None:
    """Return a digest of all that an answer depends on; None where that cannot be told without loading it."""
    asked = {name: value for name, value in config.resolved().items() if name not in ASIDE}
    stamps: Stamps = {}
    if asked.get("trust_pickle"):  # the files name code
        return None
    if any(text == "..." or _is_code(text) or len(APART.split(text)) > SEVERAL for text in _texts(asked)):
        return None
    for path in (Path(robustkit.__file__).parent, paths.data_dir(), *_named(asked)):
        if not _stamp(path, stamps, str(path.resolve())):
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
    """Note that a folder holds the answer to a question, as its files are now.

    Not where no worker could finish an attack: the same command tries it again.
    """
    stamps: Stamps = {}
    (folder / NOTE).unlink(missing_ok=True)
    if asked is not None and not _failed(folder / NOTE.parent) and _stamp(folder, stamps):
        write_json(folder / NOTE, {"question": asked, "files": stamps})


def _unchanged(folder: Path, stamps: Stamps) -> bool:
    """Return whether every file that was noted is still there, of the same size and times."""
    return all(_facts(os.stat(folder / name)) == facts for name, facts in stamps.items())


def _failed(runs: Path) -> bool:
    """Return whether a stored cell stands for an attack whose workers died in every try."""
    texts = (path.read_bytes() for path in runs.glob("*.json"))
    return any("failed" in json.loads(text).get("environment", {}) for text in texts if b'"failed"' in text)


def _facts(stat: os.stat_result) -> list[int]:
    """Return the size and both times: a copy may keep the time of its original, nothing sets that of the inode."""
    return [stat.st_size, stat.st_mtime_ns, stat.st_ctime_ns]


def _stamp(path: Path, stamps: Stamps, prefix: str = "") -> bool:
    """Put the size and times of a file, or of all files below a folder, into ``stamps``; return False if too many.

    Links are followed, as who reads images does; a folder that holds itself counts as too many.
    """
    if path.is_file():
        stamps[prefix] = _facts(path.stat())
        return True
    entered = set[str]()
    for place, folders, files in os.walk(path, followlinks=True):
        if (real := os.path.realpath(place)) in entered:
            return False
        entered.add(real)
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
    """Yield the files and folders that options name; what stands between parts may be in a name as well."""
    for text in _texts(asked):
        ends = [match.span() for match in APART.finditer(text)]
        begins, stops = [0, *(end for _, end in ends)], [*(begin for begin, _ in ends), len(text)]
        for part in {text[begin:stop] for begin in begins for stop in stops if begin < stop}:
            path = Path(part).expanduser()
            if path.is_file():
                yield from (other for other in path.parent.iterdir() if other.suffix in BESIDE)
            if path.exists():
                yield path


def _is_code(text: str) -> bool:
    """Return whether an option may name Python, ``module:name`` or ``file.py:name``: what it imports is not known."""
    kind, colon, _ = text.partition(":")
    return bool(PYTHON.search(text)) or bool(colon) and kind not in KINDS and not Path(text).expanduser().exists()
