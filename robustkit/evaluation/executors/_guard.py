"""A process beside an instance of Ray of our own, which ends what a killed driver leaves; a program for itself.

Ray ends most of it within a second, but its agents try for a minute to tell a server that is gone, and its folder of
logs stays. Nothing but the standard library is imported, so that it starts at once. Where there is no ``/proc`` it only
removes the folder.
"""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

MARK = "ROBUSTKIT_RAY_INSTANCE"  # in the environment of all processes of an instance: its folder
GRACE = 1.0  # seconds in which Ray ends what it can by itself
LOOK = 0.1  # seconds after which the guard looks whether the driver is there


def start(folder: str) -> subprocess.Popen[bytes]:
    """Start it for the instance whose processes are marked with a folder."""
    return subprocess.Popen(
        [sys.executable, "-I", "-S", __file__, folder, str(os.getpid())], start_new_session=True,
        stdin=subprocess.PIPE, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
    )  # fmt: skip


def dismiss(guard: subprocess.Popen[bytes]) -> None:
    """End it: the instance was ended in an orderly way."""
    guard.kill()
    guard.wait()
    if guard.stdin:
        guard.stdin.close()


def marked(folder: str) -> list[int]:
    """Return the processes of an instance: by the mark, or, where Ray wrote a title over it, by their logs.

    A process that the driver forked has its logs open, too, and is none of the instance's.
    """
    mark, place, found = f"{MARK}={folder}\0".encode(), f"{folder}/", []
    for entry in Path("/proc").glob("[0-9]*"):
        try:
            ours = mark in (entry / "environ").read_bytes()
            titled = (entry / "cmdline").read_bytes().startswith(b"ray")
            if ours or (titled and any(os.readlink(file).startswith(place) for file in (entry / "fd").iterdir())):
                found.append(int(entry.name))
        except OSError:  # it has just ended, or is another user's
            continue
    return found


def end(folder: str) -> None:
    """End what is left of an instance beside this process, for a few seconds at most, and remove its folder."""
    for _ in range(50):
        left = [process for process in marked(folder) if process != os.getpid()]
        if not left:
            break
        for process in left:
            try:
                os.kill(process, signal.SIGKILL)
            except OSError:
                continue
        time.sleep(0.1)
    shutil.rmtree(folder, ignore_errors=True)


def main(folder: str, driver: int) -> None:
    """Wait until the driver is gone; then end what is left.

    The input is closed too early where a driver leaves that has not ended its instance, and too late where it has
    forked, so that only Windows, which names a parent that is gone, too, goes by it.
    """
    if os.name == "nt":
        sys.stdin.buffer.read()
    else:
        while os.getppid() == driver:
            time.sleep(LOOK)
    time.sleep(GRACE)
    end(folder)


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]))
