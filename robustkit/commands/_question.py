"""What the answer to a command depends on, found out without loading any of it. Imports nothing that takes time.

It is looked at before a command does anything, so that no more than a few modules of the standard library may stand
here: what a question costs is paid by every command, also by one that is answered by nothing else.
"""

from __future__ import annotations

import hashlib
import json
import os
import platform
import re
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from robustkit.base import paths
from robustkit.base.versions import installed

MOST = 20_000  # files that are looked at; more would take longer than what is saved
APART = re.compile(r"[,=:+]")  # what stands between names, values and paths in an option
PYTHON = re.compile(r"\.py\b")
KINDS = ("npz", "imagefolder", "idx", "genotype", "near", "far")  # what may stand before ":" and is no code
BESIDE = (".json", ".safetensors", ".bin")  # what is read beside a file: the other shards, or what describes them
SEVERAL = 64  # parts of an option of which every run of neighbours is tried as a path
PACKAGE = Path(__file__).parents[1]

Stamps = dict[str, list[int]]


def question(command: str, asked: dict[str, Any]) -> str | None:
    """Return a digest of all that an answer depends on; None where that cannot be told without loading it.

    Parameters
    ----------
    asked : dict
        The options by name, as :meth:`Configuration.resolved` has them, but those that no number and no page depends
        on.
    """
    stamps: Stamps = {}
    if asked.get("trust_pickle"):  # the files name code
        return None
    if any(text == "..." or _is_code(text) or len(APART.split(text)) > SEVERAL for text in _texts(asked)):
        return None
    try:
        if not all(stamp(path, stamps, os.path.realpath(path)) for path in (PACKAGE, paths.data_dir(), *_named(asked))):
            return None
    except OSError:  # a folder that may not be read, or a file that was just removed
        return None
    whole = {
        "command": command, "asked": asked, "python": sys.version, "versions": installed(),
        "cache": str(paths.cache_dir()),
        "machine": [platform.node(), platform.machine(), sorted(map(str, Path("/dev").glob("nvidia*")))],
        "environment": {k: v for k, v in os.environ.items() if k.startswith(("ROBUSTKIT_", "CUDA_"))},
        "files": stamps,
    }  # fmt: skip
    return hashlib.sha256(json.dumps(whole, sort_keys=True).encode()).hexdigest()


def unchanged(folder: Path, stamps: Stamps) -> bool:
    """Return whether every file that was noted is still there, of the same size and times."""
    return all(_facts(f"{folder}/{name}") == facts for name, facts in stamps.items())


def stamp(path: Path, stamps: Stamps, prefix: str = "") -> bool:
    """Put the size and times of a file, or of all files below a folder, into ``stamps``; return False if too many.

    Links are followed, as who reads images does; a folder that holds itself counts as too many.

    Parameters
    ----------
    prefix : str
        What goes before the names of files below a folder; the name of a file.
    """
    if path.is_file():
        stamps[prefix] = _facts(path)
        return True
    entered = set[str]()
    folders = [(str(path), prefix and prefix + "/")] if path.is_dir() else []
    while folders:
        place, before = folders.pop()
        if (real := os.path.realpath(place)) in entered:
            return False
        entered.add(real)
        for found in os.scandir(place):
            if found.name.startswith("."):
                continue
            if found.is_dir():
                folders += [(found.path, f"{before}{found.name}/")] if found.name != "__pycache__" else []
            else:
                stamps[before + found.name] = _facts(found.path)
        if len(stamps) > MOST:
            return False
    return True


def _facts(path: str | Path) -> list[int]:
    """Return the size and both times: a copy may keep the time of its original, nothing sets that of the inode.

    Of what is not there, like the end of a link that leads nowhere, there is nothing to return.
    """
    try:
        stat = os.stat(path)
    except OSError:
        return []
    return [stat.st_size, stat.st_mtime_ns, stat.st_ctime_ns]


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
