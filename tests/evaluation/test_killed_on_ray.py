"""Evaluations on Ray whose driver, node or workers are killed in the middle: nothing is lost, and nothing stays."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from in_process import invoke
from ray_cluster import RayNodes, environment, holders, until
from test_everything_on_ray import numbers

ASKED = [
    *("evaluate", "--defense", "baseline", "--dataset", "digits", "--arch", "lenet", "--members", "2", "--epochs", "1"),
    *("--attacks", "pgd,mim", "--set", "pgd.steps=150", "--set", "mim.steps=150", "--eps", "0.05,0.1", "--n", "100"),
    *("--suites", "attacks", "--trust", "off", "--format", "md"),
]
SOON = 30.0  # seconds after which nothing is left of a run, beside other tests; two to five on a quiet machine


@pytest.fixture
def home() -> Iterator[Path]:
    """A folder for a driver and all that it starts, with a short path: sockets lie in it."""
    with tempfile.TemporaryDirectory(prefix="rk-", ignore_cleanup_errors=True) as name:
        yield Path(name)


@pytest.fixture(scope="module")
def by_threads(tmp_path_factory: pytest.TempPathFactory) -> Any:
    out = tmp_path_factory.mktemp("threads")
    code, _, err = invoke(*ASKED, "--out", out, "--workers", "1")
    assert code == 0, err
    return results(out)


def results(out: Path) -> Any:
    """Return what an evaluation found, without times and hosts, nor what commands in it say of places and executors."""
    text = (out / "results.json").read_text().replace(str(out), "OUT")
    found = json.loads(re.sub(r" --(executor|workers) \S+", "", text))
    for name in ("run", "nodes"):
        found.pop(name, None)
    return numbers(found)


def differing(one: Any, other: Any, at: str = "") -> list[str]:
    """Return where two results differ."""
    if isinstance(one, dict) and isinstance(other, dict) and one.keys() == other.keys():
        return [line for name in one for line in differing(one[name], other[name], f"{at}.{name}")]
    if isinstance(one, list) and isinstance(other, list) and len(one) == len(other):
        return [line for place in range(len(one)) for line in differing(one[place], other[place], f"{at}[{place}]")]
    return [] if one == other else [f"{at}: {one!r} is not {other!r}"]


def started(home: Path, executor: str) -> subprocess.Popen[str]:
    """Start the command as a process of its own; its output goes to a file."""
    words = [sys.executable, "-m", "robustkit", *ASKED, "--out", str(home / "out"), "--executor", executor]
    with (home / "log").open("w") as log:
        env = environment(home, ROBUSTKIT_CACHE=os.environ["ROBUSTKIT_CACHE"])
        return subprocess.Popen(words, env=env, stdout=log, stderr=subprocess.STDOUT, text=True)


def cells(home: Path) -> int:
    return sum(path.name != "study.json" for path in (home / "out" / "runs").glob("*.json"))


def stopped(home: Path, executor: str, signum: int, at: int) -> int:
    """Run the command and send it a signal once so many cells are stored; return its exit status."""
    driver = started(home, executor)
    assert until(lambda: cells(home) >= at, 120, driver.poll), (home / "log").read_text()
    driver.send_signal(signum)
    status = driver.wait(SOON)
    assert not (home / "out" / "results.json").exists()
    assert until(lambda: not holders(home), SOON), holders(home)
    assert [path.name for path in home.iterdir() if path.name.startswith("rk-ray-")] == []
    return status


@pytest.mark.long
def test_interrupted_killed_and_a_node_killed_the_same_command_ends_with_the_numbers_of_threads(
    home: Path, ray_nodes: RayNodes, by_threads: Any
):
    assert stopped(home, "ray", signal.SIGINT, 1) == 130
    kept = cells(home)
    assert stopped(home, "ray", signal.SIGKILL, kept + 1) == -signal.SIGKILL
    kept, extra = cells(home), ray_nodes.add()
    driver = started(home, ray_nodes.address)
    try:
        assert until(lambda: cells(home) > kept, 120, driver.poll), (home / "log").read_text()
    finally:
        ray_nodes.kill(extra)
    assert driver.wait(120) == 0, (home / "log").read_text()
    assert differing(results(home / "out"), by_threads) == []
    said = (home / "log").read_text()
    assert "cells were in the store already" in said
    assert said.rstrip().splitlines()[-1].startswith("report: ")
    assert not (home / ".ray").exists()
    assert until(lambda: not ray_nodes.busy(), SOON), ray_nodes.busy()


@pytest.mark.long
@pytest.mark.parametrize("signum", [signal.SIGINT, signal.SIGKILL, signal.SIGTERM])
@pytest.mark.parametrize("joined", [False, True])
def test_whatever_ends_the_driver_leaves_no_process_and_the_same_command_goes_on(
    home: Path, ray_nodes: RayNodes, by_threads: Any, signum: int, joined: bool
):
    executor = ray_nodes.address if joined else "ray"
    assert stopped(home, executor, signum, 2) != 0
    assert until(lambda: not ray_nodes.busy(), SOON), ray_nodes.busy()
    driver = started(home, executor)
    assert driver.wait(120) == 0, (home / "log").read_text()
    assert differing(results(home / "out"), by_threads) == []
    assert not holders(home)


@pytest.mark.long
def test_through_the_client_server_numbers_are_those_of_threads(home: Path, ray_nodes: RayNodes, by_threads: Any):
    driver = started(home, ray_nodes.client)
    assert driver.wait(120) == 0, (home / "log").read_text()
    assert differing(results(home / "out"), by_threads) == []
