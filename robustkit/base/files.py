"""Files that are either there and whole, or not there: atomic writes. Never imports torch."""

from __future__ import annotations

import hashlib
import json
import os
import tempfile
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any, BinaryIO

from robustkit.base.errors import UserError


def write_atomic(path: Path, fill: Callable[[BinaryIO], Any]) -> None:
    """Write a file through ``fill``, so that a kill at any moment leaves the old file or the new one, never a part."""
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, name = tempfile.mkstemp(prefix=f".{path.name}.", dir=path.parent)
    try:
        with os.fdopen(handle, "wb") as stream:
            fill(stream)
            stream.flush()
            os.fsync(stream.fileno())
        os.chmod(name, 0o644)
        os.replace(name, path)
    except BaseException:
        Path(name).unlink(missing_ok=True)
        raise


def write_json(path: Path, value: Any) -> None:
    """Write plain JSON atomically; ValueError on NaN, TypeError on anything that is not JSON."""
    text = json.dumps(value, indent=1, allow_nan=False) + "\n"
    write_atomic(path, lambda stream: stream.write(text.encode()))


def sha256_of(path: Path) -> str:
    """Return the SHA-256 (hex) of a file."""
    sha = hashlib.sha256()
    with path.open("rb") as stream:
        while part := stream.read(1 << 20):
            sha.update(part)
    return sha.hexdigest()


def listed(paths: str | Path | Iterable[str | Path] | None) -> list[Path]:
    """Return one path, several or none as a list."""
    return [Path(path) for path in ([paths] if isinstance(paths, str | Path) else paths or ())]


def writable(folder: Path, purpose: str) -> Path:
    """Return ``folder``, made if need be, and check that it can be written to, before any work is done for it."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            pass
    except OSError as error:
        # Cause: the folder belongs to another user, the disk is full or read-only, or a file stands in its place.
        raise UserError(
            f"cannot write to {purpose} '{folder}' ({error.strerror}); name another with {purpose}."
        ) from None
    return folder
