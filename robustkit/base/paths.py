"""Where robustkit keeps what it can make or fetch again. Never imports torch."""

from __future__ import annotations

import os
from pathlib import Path


def cache_dir() -> Path:
    """Return the cache folder: ``ROBUSTKIT_CACHE`` where set, else ``~/.cache/robustkit``; it need not exist."""
    return Path(os.environ.get("ROBUSTKIT_CACHE") or "~/.cache/robustkit").expanduser()


def data_dir() -> Path:
    """Return the folder of downloaded datasets where no ``--data-dir`` is given; it need not exist."""
    return cache_dir() / "data"
