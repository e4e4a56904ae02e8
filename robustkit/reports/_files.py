"""Writing the files of a report."""

from __future__ import annotations

from pathlib import Path

from robustkit.base.files import write_atomic


def write_text(path: Path, text: str) -> Path:
    """Write UTF-8 text with plain newlines, making the folder, and return the path."""
    return write_bytes(path, text.encode())


def write_bytes(path: Path, content: bytes) -> Path:
    """Write bytes atomically, making the folder, and return the path."""
    write_atomic(path, lambda stream: stream.write(content))
    return path
