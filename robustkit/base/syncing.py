"""Files that are put on the disk in threads beside the work, several at a time. Never imports torch.

Waiting for the disk (``fsync``) takes milliseconds, and a disk takes several files nearly as fast as one. A file that
is written this way is whole and has its name at once, so that whoever ends the process loses nothing; a machine that
loses its power may lose the last :data:`MOST` of them, or leave them empty. So it is for files that a reader checks.
"""

from __future__ import annotations

import os
import threading
from concurrent.futures import ThreadPoolExecutor

THREADS = 8  # more were no faster on ext4, which puts files that wait together on the disk at once
MOST = 32  # files that may be on their way


class Syncing:
    """Files on their way to the disk; safe to use from several threads."""

    def __init__(self, threads: int = THREADS, most: int = MOST) -> None:
        self._threads, self._most = threads, most
        self.begin()

    def begin(self) -> None:
        """Begin with no file on its way, as a forked process must: it has none of its parent's threads."""
        self._pool = ThreadPoolExecutor(self._threads, thread_name_prefix="sync")
        self._room = threading.BoundedSemaphore(self._most)
        self._lock, self._left = threading.Condition(), 0
        self._failed: OSError | None = None

    def take(self, handle: int) -> None:
        """Put an open file on the disk and close it; wait where too many are on their way.

        OSError if this was impossible with one before it.
        """
        self._room.acquire()
        with self._lock:
            self._left += 1
        try:
            self._pool.submit(self._sync, handle)
        except RuntimeError:  # the interpreter ends
            self._sync(handle)
        self._raise()

    def wait(self) -> None:
        """Return once every file that was taken is on the disk; OSError if this was impossible with one of them."""
        with self._lock:
            self._lock.wait_for(lambda: not self._left)
        self._raise()

    def _sync(self, handle: int) -> None:
        try:
            try:
                os.fsync(handle)
            finally:
                os.close(handle)
        except OSError as error:
            self._failed = error
        finally:
            with self._lock:
                self._left -= 1
                self._lock.notify_all()
            self._room.release()

    def _raise(self) -> None:
        failed, self._failed = self._failed, None
        if failed is not None:
            raise failed


SYNCING = Syncing()  # of this process
if hasattr(os, "register_at_fork"):  # Windows has no fork
    os.register_at_fork(after_in_child=SYNCING.begin)
