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
from robustkit.base.syncing import SYNCING


def write_atomic(path: Path, fill: Callable[[BinaryIO], Any], *, beside: bool = False) -> None:
    """Write a file through ``fill``, so that a kill at any moment leaves the old file or the new one, never a part.

    It is on the disk when this returns, and with it all that was written before. ``beside``: it gets there a moment
    later (:mod:`robustkit.base.syncing`); only for a file of which a reader notices that it is not whole.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, name = tempfile.mkstemp(prefix=f".{path.name}.", dir=path.parent)
    kept = None
    try:
        with os.fdopen(handle, "wb") as stream:
            fill(stream)
            stream.flush()
            if beside and os.name != "nt":  # Windows renames no file that is open
                kept = os.dup(stream.fileno())
            else:
                os.fsync(stream.fileno())
                SYNCING.wait()
        os.chmod(name, 0o644)
        os.replace(name, path)
    except BaseException:
        if kept is not None:
            os.close(kept)
        Path(name).unlink(missing_ok=True)
        raise
    if kept is not None:
        SYNCING.take(kept)


def write_json(path: Path, value: Any, *, beside: bool = False) -> None:
    """Write plain JSON atomically; ValueError on NaN, TypeError on anything that is not JSON."""
    text = json.dumps(value, indent=1, allow_nan=False) + "\n"
    write_atomic(path, lambda stream: stream.write(text.encode()), beside=beside)


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


def own_folder(folder: Path, purpose: str, marks: Iterable[str], force: bool = False) -> Path:
    """Return ``folder``, made if need be, once :func:`check_folder` and :func:`writable` find nothing wrong with it."""
    check_folder(folder, purpose, marks, force)
    return writable(folder, purpose)


def check_folder(folder: Path, purpose: str, marks: Iterable[str], force: bool = False) -> None:
    """Refuse a folder that holds something else than what is about to be written there.

    Parameters
    ----------
    marks : iterable of str
        Names one of which lies in every folder of this kind; names that begin with a dot do not count as content.

    Raises
    ------
    UserError
        If the folder is neither empty nor of this kind, and nothing is forced.
    """
    try:
        content = sorted(path.name for path in folder.iterdir() if not path.name.startswith("."))
    except OSError:  # not there yet, or to be refused as no folder that can be written to
        content = []
    if content and not force and not {*marks} & {*content}:
        shown = ", ".join(content[:3]) + (", ..." if len(content) > 3 else "")
        # Cause: the folder is somebody's own, or that of another command, and files of the same names would go.
        raise UserError(
            f"{purpose} '{folder}' holds something else ({shown}); name a folder that is new or empty, or add --force."
        )


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
