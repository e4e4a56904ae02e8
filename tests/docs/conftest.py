"""What the commands of the pages name: checkpoints, a pool, files, stored evaluations."""

from __future__ import annotations

from pathlib import Path

import pytest
import world
from filelock import FileLock


@pytest.fixture(scope="session")
def made(shared_folder: Path) -> Path:
    """What the commands name, made once for all workers."""
    folder = shared_folder / "world"
    with FileLock(shared_folder / "world.lock"):
        if not folder.exists():
            part = shared_folder / "world.part"
            part.mkdir()
            world.make(part)
            part.rename(folder)
    return folder
