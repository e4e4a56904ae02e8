"""Open a stranger's file: what cannot be opened or parsed becomes one sentence that names it."""

from __future__ import annotations

import hashlib
import os
import stat
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO, TypeVar

from robustkit.auditing._limits import FILE_BYTES, GIB, Damaged, NoNetwork, clean, refuse
from robustkit.base.errors import UserError

T = TypeVar("T")


class NoNetworkError(UserError):
    """A file is whole and is known to hold something else than a network."""


def reason(path: Path, error: Exception) -> str:
    """Return why a path cannot be opened."""
    if isinstance(error, FileNotFoundError):
        return "is a link to nothing" if path.is_symlink() else "does not exist"
    if isinstance(error, PermissionError):
        return "may not be read by this user"
    return f"cannot be opened ({clean(getattr(error, 'strerror', None) or error)})"


@contextmanager
def opened(path: Path) -> Iterator[tuple[BinaryIO, int]]:
    """Open a regular file of bounded size; a FIFO or device neither blocks nor is read."""
    try:
        handle = os.open(path, os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0))
    except (OSError, ValueError) as error:
        refuse(path, reason(path, error))
    with os.fdopen(handle, "rb") as stream:
        facts = os.fstat(handle)
        if not stat.S_ISREG(facts.st_mode):
            refuse(path, "is no regular file")
        if facts.st_size == 0:
            refuse(path, "is empty")
        if facts.st_size > FILE_BYTES:
            refuse(path, f"has {facts.st_size / GIB:.1f} GiB, {FILE_BYTES // GIB} at most are read")
        yield stream, facts.st_size


def guarded(path: Path, work: Callable[[], T]) -> T:
    """Turn whatever a hostile file makes a parser raise into one sentence."""
    try:
        return work()
    except UserError as error:
        raise UserError(clean(" ".join(str(error).split()), 1000)) from None
    except NoNetwork as error:
        raise NoNetworkError(f"'{clean(path, 300)}' {error}; {error.remedy}.") from None
    except Damaged as error:
        refuse(path, str(error), error.remedy)
    except MemoryError:
        refuse(path, "asks for more memory than there is")
    except Exception as error:  # the boundary: nothing that a file provokes may end in a traceback
        refuse(path, f"cannot be read ({type(error).__name__}: {clean(error, 200)})")


def sha256(stream: BinaryIO) -> str:
    """Return the SHA-256 (hex) of an open file."""
    sha = hashlib.sha256()
    stream.seek(0)
    while block := stream.read(1 << 20):
        sha.update(block)
    stream.seek(0)
    return sha.hexdigest()
