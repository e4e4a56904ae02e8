"""A worker of pytest-xdist that is ended: how is told, and only drivers of Ray have a second try."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

ENDS = """
import os, signal
from pathlib import Path

def test_ends():
    tries = Path("tries")
    count = len(tries.read_text()) if tries.exists() else 0
    tries.write_text("x" * (count + 1))
    if count < {times}:
        os.kill(os.getpid(), {number})

def test_other():
    pass
"""


@pytest.mark.parametrize(
    ("name", "times", "number", "options", "code", "said"),
    [
        ("test_a_on_ray.py", 1, 6, (), 0, "RAN AGAIN, its process had ended: test_a_on_ray.py::test_ends"),
        ("test_a_on_ray.py", 2, 6, (), 1, "test_ends': signal SIGABRT"),
        ("test_a_on_ray.py", 1, 9, (), 1, "test_ends': signal SIGKILL"),
        ("test_a_on_ray.py", 1, 35, (), 1, "test_ends': signal 35"),
        ("test_a_on_ray.py", 1, 6, ("--max-worker-restart=0",), 1, "DID NOT RUN AGAIN, its process had ended"),
        ("test_a_on_ray.py", 1, 6, ("--dist", "loadfile"), 1, "test_ends': signal SIGABRT"),
        ("test_a.py", 1, 6, (), 1, "test_ends': signal SIGABRT"),
    ],
)
def test_a_driver_of_ray_has_one_more_try_and_nobody_else(
    name: str, times: int, number: int, options: tuple[str, ...], code: int, said: str, tmp_path: Path
):
    (tmp_path / name).write_text(ENDS.format(times=times, number=number))
    (tmp_path / "pytest.ini").write_text("[pytest]\n")
    words = [sys.executable, "-m", "pytest", "-n1", "-p", "crashes", "-p", "no:cacheprovider", *options, name]
    env = {**os.environ, "PYTHONPATH": str(Path(__file__).parent)}
    for inherited in ("PYTEST_XDIST_WORKER", "PYTEST_XDIST_WORKER_COUNT", "PYTEST_ADDOPTS"):
        env.pop(inherited, None)
    done = subprocess.run(words, cwd=tmp_path, env=env, capture_output=True, text=True, check=False)
    assert done.returncode == code, done.stdout
    assert said in done.stdout
