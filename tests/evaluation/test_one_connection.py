"""Several executors of one process, which has one connection to Ray; and a cluster that grows meanwhile."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
import ray_pieces
import torch
from ray_cluster import ROOT, RayNodes, descendants, until, words
from test_commands_on_ray import differing
from test_everything_on_ray import ASKED, numbers
from test_pieces_on_ray import Said

from robustkit import api
from robustkit.base.errors import RunError, UserError
from robustkit.base.progress import Reporter
from robustkit.ensembles import fastpath
from robustkit.ensembles.folding import fold
from robustkit.evaluation import pieces
from robustkit.evaluation.executors import Piece, _guard
from robustkit.evaluation.executors._address import read
from robustkit.evaluation.executors.ray import Ray

ray = pytest.importorskip("ray")


@pytest.fixture(autouse=True)
def home(ray_nodes: RayNodes, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(ray_nodes.folder))
    monkeypatch.delenv("RAY_ADDRESS", raising=False)


@pytest.fixture
def opened(ray_nodes: RayNodes) -> Iterator[list[Ray]]:
    """Two executors that have joined the same cluster."""
    both = [Ray(torch.device("cpu"), read(ray_nodes.address)) for _ in range(2)]
    for executor in both:
        executor.open()
    yield both
    for executor in both:
        executor.close()


def asleep(count: int, seconds: float) -> list[Piece]:
    return [Piece(ray_pieces.number, {"value": at, "seconds": seconds}, label=str(at)) for at in range(count)]


@pytest.mark.parametrize("leaves", [0, 1])
def test_the_last_of_two_executors_ends_the_connection(opened: list[Ray], leaves: int):
    first, last = opened[leaves], opened[1 - leaves]
    with last.session(3, Reporter()) as session:
        for piece in asleep(3, 0.3):
            session.submit(piece)
        found = session.finished()
        values = {next(found).value}
        first.close()
        values |= {done.value for done in found}
    assert values == {0, 1, 2}
    assert ray.is_initialized()
    first.close()  # once more does nothing
    assert ray.is_initialized()
    last.close()
    assert not ray.is_initialized()


def test_another_cluster_at_the_same_time_is_refused_and_the_first_goes_on(opened: list[Ray], ray_nodes: RayNodes):
    with pytest.raises(UserError, match=f"connected to '{ray_nodes.address}' .* the same executor instead of 'auto'"):
        Ray(torch.device("cpu"), read("auto")).open()
    with opened[0].session(1, Reporter()) as session:
        session.submit(asleep(1, 0.0)[0])
        assert [done.value for done in session.finished()] == [0]


def test_each_node_has_a_piece_that_waits(opened: list[Ray]):
    with opened[0].session(9, Reporter()) as session:
        for piece in asleep(9, 0.1):
            session.submit(piece)
        found = session.finished()
        next(found)
        meant = Counter(node for _, node in session._flying.values())
        assert meant == dict.fromkeys(opened[0].rooms(), 2)  # one that runs, and one
        assert len([*found]) == 8


@pytest.mark.long
def test_a_node_that_joins_meanwhile_is_given_work(opened: list[Ray], ray_nodes: RayNodes):
    with opened[0].session(60, Reporter()) as session:
        for piece in asleep(60, 0.5):
            session.submit(piece)
        found = session.finished()
        where = [next(found).where["node"]]
        extra = ray_nodes.add()
        try:
            where += [done.where["node"] for done in found]
        finally:
            ray_nodes.kill(extra)
    assert len(where) == 60
    assert set(where) == {"node-1", "node-2", "node-3"}
    assert until(lambda: len(opened[0].rooms()) == 2, 30)


@pytest.mark.long
def test_two_evaluations_in_threads_share_an_instance(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("ROBUSTKIT_CACHE", str(tmp_path / "cache"))
    asked: dict[str, Any] = {**ASKED, "suites": "attacks", "trust": "off", "formats": ()}
    names = {"short": {"n": 12}, "long": {"n": 40}}

    def found(kind: str, name: str, **where: Any) -> Any:
        api.evaluate(**asked | names[name] | where, out=tmp_path / kind / name)
        results = json.loads((tmp_path / kind / name / "results.json").read_text())
        return numbers({key: value for key, value in results.items() if key not in ("run", "nodes")})

    here = [found("local", name, workers=1) for name in names]
    with ThreadPoolExecutor(2) as pool:
        there = [*pool.map(lambda name: found("ray", name, executor="ray"), names)]
    assert differing(there, here) == []
    assert not ray.is_initialized()


@pytest.mark.skipif(not Path("/proc/self/environ").exists(), reason="needs /proc")
def test_what_this_process_starts_beside_an_instance_outlives_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    executor = Ray(torch.device("cpu"), read("ray"))
    with contextlib.closing(executor):
        folder = executor.cluster._folder
        started = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"])
        if (forked := os.fork()) == 0:  # it has Ray's logs open, as this process has
            time.sleep(60)
            os._exit(0)
        assert len(_guard.marked(folder)) > 3  # Ray's own are known, so that they can be ended
    assert _guard.marked(folder) == []
    assert started.poll() is None
    started.kill()
    started.wait()
    assert os.waitpid(forked, os.WNOHANG) == (0, 0)
    os.kill(forked, signal.SIGKILL)
    os.waitpid(forked, 0)


@pytest.mark.long
def test_where_no_node_is_left_a_warning_says_so_and_one_that_joins_goes_on():
    with RayNodes() as nodes, contextlib.closing(Ray(torch.device("cpu"), read(nodes.address))) as executor:
        only, said = nodes.add(), Said()
        with executor.session(6, said) as session:
            for piece in asleep(6, 0.3):
                session.submit(piece)
            found = session.finished()
            values = [next(found).value]
            nodes.kill(only)
            threading.Timer(8.0, nodes.add).start()
            values += [done.value for done in found]
    assert sorted(values) == [*range(6)]
    assert sum("is left; one that joins goes on" in line for line in said.lines) == 1


@pytest.mark.long
def test_what_the_trial_hangs_on_members_does_not_travel(
    ray_nodes: RayNodes, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setenv("ROBUSTKIT_CACHE", str(tmp_path / "cache"))
    share, folded = pieces.share_ensembles, []

    def late(*given: Any) -> None:
        time.sleep(1.0)  # so that a trial that has begun is in the middle of it
        share(*given)

    def slow(member: torch.nn.Module, x: torch.Tensor) -> Any:
        hook = member.register_forward_hook(lambda *_: None)
        time.sleep(3.0)
        hook.remove()
        folded.append(member)
        return fold(member, x)

    monkeypatch.setattr(pieces, "share_ensembles", late)
    monkeypatch.setattr(fastpath, "fold", slow)
    asked = {**ASKED, "suites": "attacks", "trust": "off", "formats": (), "n": 8, "speed": "auto"}
    api.evaluate(**asked, executor=ray_nodes.address, out=tmp_path / "out")
    assert folded


@pytest.mark.long
@pytest.mark.skipif(not Path("/proc/self/environ").exists(), reason="needs /proc")
def test_an_instance_whose_raylet_dies_ends_the_work_and_no_piece_is_called_failed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(ROOT), str(ROOT / "tests")]))
    monkeypatch.setenv("HOME", str(tmp_path))
    with (
        contextlib.closing(Ray(torch.device("cpu"), read("ray"))) as executor,
        executor.session(9, Reporter()) as session,
    ):
        for piece in asleep(9, 0.3):
            session.submit(piece)
        found = session.finished()
        next(found)
        folder = executor.cluster._folder
        for process in descendants(os.getpid()):
            if any(f"raylet_socket_name={folder}" in word for word in words(process)):
                os.kill(process, signal.SIGKILL)
        with pytest.raises(RunError, match="Ray's own process on this machine .raylet. has died"):
            _ = [done.result() for done in found]
    assert _guard.marked(folder) == []
