"""What code is, beyond its version: two checkouts may call themselves the same, and a file of networks has none."""

from __future__ import annotations

import functools
import hashlib
from pathlib import Path


def of_file(path: str | Path) -> str:
    """Return the SHA-256 of a file; empty where it cannot be read, as one in an archive."""
    try:
        return hashlib.sha256(Path(path).read_bytes()).hexdigest()
    except OSError:
        return ""


@functools.cache
def digest() -> str:
    """Return the first twelve digits of a SHA-256 of all Python files of the package, by name."""
    return of_folder(Path(__file__).parents[1])


def of_folder(root: Path) -> str:
    """Return the first twelve digits of a SHA-256 of all Python files in a folder, by name.

    A link that leads nowhere is none: an editor leaves such a one (``.#name.py``) beside a file that is being changed.
    """
    whole = hashlib.sha256()
    for path in sorted(found for found in root.rglob("*.py") if found.is_file()):
        whole.update(f"{path.relative_to(root).as_posix()}\n".encode())
        whole.update(path.read_bytes().replace(b"\r\n", b"\n"))
    return whole.hexdigest()[:12]
