"""Pieces of work for tests of executors: known by their names, so that workers elsewhere find them."""

from __future__ import annotations

import os
import signal
import sys
import time
from pathlib import Path
from typing import Any

import torch

from robustkit.base.errors import UserError


def tried(folder: str, name: str) -> int:
    """Note one more try in a folder; return how many there have been."""
    with (Path(folder) / name).open("a") as notes:
        notes.write(f"{os.getpid()}\n")
    return len((Path(folder) / name).read_text().split())


def number(worker: Any, value: int, seconds: float = 0.0) -> int:
    time.sleep(seconds)
    return value


def dying(worker: Any, folder: str, name: str, times: int) -> int:
    """End the own process without a word, so many times."""
    count = tried(folder, name)
    if count <= times:
        os.kill(os.getpid(), signal.SIGKILL)
    return count


def raising(worker: Any, folder: str, name: str) -> None:
    tried(folder, name)
    raise ZeroDivisionError("this piece never works")


def refusing(worker: Any, folder: str, name: str) -> None:
    tried(folder, name)
    raise UserError("eps '7' is more than 1.")


def hungry(worker: Any, needed: int, of_torch: bool) -> int:
    if worker.halvings < needed:
        raise torch.OutOfMemoryError("no memory") if of_torch else MemoryError("no memory")
    return int(worker.halvings)


def surroundings(worker: Any) -> dict[str, Any]:
    """Return what a worker knows of whoever asked."""
    import ray

    job = ray.get_runtime_context().get_job_id()
    return {"environment": dict(os.environ), "path": sys.path, "argv": sys.argv, "folder": os.getcwd(), "job": job}


def weighed(worker: Any, model: str, split: str, seconds: float) -> tuple[int, int]:
    """Return how many parameters and images were shared."""
    time.sleep(seconds)
    return sum(value.numel() for value in worker.get(model).parameters()), len(worker.get(split))
