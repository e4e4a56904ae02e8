"""What work cost on this machine: a small file in the cache that estimates are made from. Never imports torch.

A cost is kept in the unit in which it stays the same while the machine is more or less busy: epochs in steps, stages
of an evaluation in passes of its ensembles. The trial before each run says how long a step or a pass takes now.
"""

from __future__ import annotations

import contextlib
import json
import platform
import threading
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from robustkit.base.files import write_json
from robustkit.base.paths import cache_dir
from robustkit.base.version import __version__
from robustkit.records.cells import digest

MOST = 500  # costs that are kept; the oldest go first
WEIGHT = 0.5  # of a new measurement beside what was known
_LOCK = threading.Lock()


def path() -> Path:
    """Return the file of the costs."""
    return cache_dir() / "costs.json"


def key(what: str, **about: Any) -> str:
    """Return the key of a cost: what it is of, on which kind of machine, with which robustkit."""
    machine = {"processor": platform.processor() or platform.machine(), "version": __version__}
    return f"{what}-{digest({**about, **machine})[:16]}"


def known() -> dict[str, float]:
    """Return every cost by key; nothing where the file is not there or damaged."""
    try:
        found = json.loads(path().read_text("utf-8"))
        return {str(name): float(value) for name, value in found.items()}
    except (OSError, ValueError, AttributeError, TypeError):
        return {}


def note(costs: Mapping[str, float]) -> None:
    """Add measured costs; those that were known move half of the way."""
    with _LOCK:
        before = known()
        for name, value in costs.items():
            old = before.pop(name, value)
            before[name] = WEIGHT * value + (1 - WEIGHT) * old
        kept = dict(list(before.items())[-MOST:])
        with contextlib.suppress(OSError):  # an estimate is not worth an error
            write_json(path(), kept)


@contextlib.contextmanager
def noting(found: dict[str, float], name: str, clock: Any) -> Iterator[None]:
    """Add the seconds that a block takes to ``found``."""
    started = clock()
    try:
        yield
    finally:
        found[name] = found.get(name, 0.0) + clock() - started
