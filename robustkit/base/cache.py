"""What lies in the cache: by kind how many entries, how large, how old; and clearing it. Never imports torch."""

from __future__ import annotations

import shutil
import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from robustkit.base import options
from robustkit.base.errors import UserError
from robustkit.base.paths import cache_dir

# Folders and files of the cache that may be cleared. What else lies there is not known to be ours and stays.
KINDS = {
    "ensembles": "trained ensembles, and trainings that were interrupted",
    "data": "datasets that were downloaded",
    "fastpath": "which faster copy of an ensemble is attacked on this machine",
    "forward": "which way of training a network is fastest on this machine",
    "costs.json": "how long what ran took on this machine, for estimates",
}
UNITS = {"m": 60.0, "h": 3600.0, "d": 86400.0, "w": 604800.0}


@dataclass(frozen=True)
class Entry:
    """One file or folder of a kind: its bytes, and the seconds since anything in it was last written."""

    kind: str
    path: Path
    size: int
    age: float

    def remove(self) -> None:
        """Delete it; of a link the link alone."""
        if self.path.is_dir() and not self.path.is_symlink():
            shutil.rmtree(self.path)
        else:
            self.path.unlink(missing_ok=True)


def entries(kinds: Iterable[str] = tuple(KINDS), older_than: float = 0.0) -> list[Entry]:
    """Return what lies in the cache of some kinds and is at least so many seconds old, the largest first."""
    now = time.time()
    found = [_entry(kind, path, now) for kind in kinds for path in _inside(cache_dir() / kind)]
    return sorted((one for one in found if one.age >= older_than), key=lambda one: -one.size)


def unknown() -> list[str]:
    """Return the names of what else lies in the cache folder."""
    return sorted(path.name for path in _inside(cache_dir()) if path.name not in KINDS)


def kinds_of(names: str | Iterable[str] | None) -> tuple[str, ...]:
    """Return the kinds that are named, all where none is; a :class:`UserError` suggests the nearest."""
    return tuple(options.choice(name, "kind", KINDS) for name in options.names(names)) if names else tuple(KINDS)


def seconds(text: str) -> float:
    """Read an age like ``30d``, ``12h``, ``90m`` or ``2w``."""
    unit = UNITS.get(text.strip()[-1:])
    if unit is None:
        raise UserError(f"age '{text}' has no unit; write minutes, hours, days or weeks, like 90m, 12h, 30d or 2w.")
    value = options.number(text.strip()[:-1], "age")
    if value < 0:
        raise UserError(f"age '{text}' is below 0; write how old what is cleared has to be, like 30d.")
    return value * unit


def _inside(place: Path) -> Iterator[Path]:
    """Yield what lies in a folder; of a file the file."""
    if place.is_dir():
        yield from sorted(place.iterdir())
    elif place.is_file():
        yield place


def _entry(kind: str, path: Path, now: float) -> Entry:
    folder = path.is_dir() and not path.is_symlink()
    facts = [one.lstat() for one in (path, *(path.rglob("*") if folder else ())) if one.is_symlink() or one.exists()]
    size = sum(fact.st_size for fact in facts)
    return Entry(kind, path, size, now - max((fact.st_mtime for fact in facts), default=now))
