"""Pieces of work on nodes of a real cluster: dying workers, what raises, memory, what travels and what does not."""

from __future__ import annotations

import contextlib
import os
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import ray_pieces
import torch
from ray_cluster import ROOT, RayNodes, until

from robustkit import data
from robustkit.base.errors import RunError, UserError
from robustkit.base.progress import Reporter
from robustkit.evaluation.executors import Done, Piece, _cluster
from robustkit.evaluation.executors._address import read
from robustkit.evaluation.executors._cluster import differing
from robustkit.evaluation.executors._stub import versions
from robustkit.evaluation.executors.ray import Ray

ray = pytest.importorskip("ray")


@pytest.fixture(scope="module")
def joined(ray_nodes: RayNodes) -> Iterator[Ray]:
    """An executor that has joined; one for all tests, which use names of their own."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("HOME", str(ray_nodes.folder))
        patch.setenv("ROBUSTKIT_TEST_SECRET", "sesame")
        patch.delenv("RAY_ADDRESS", raising=False)
        executor = Ray(torch.device("cpu"), read(ray_nodes.address))
        executor.open()
        yield executor
        executor.close()


class Said(Reporter):
    """Keeps what a person is told."""

    def __init__(self) -> None:
        super().__init__()
        self.lines: list[str] = []

    def say(self, line: str, *rest: Any, **more: Any) -> None:
        self.lines.append(line)


def over(executor: Ray, *pieces: Piece, reporter: Reporter | None = None) -> dict[str, Done]:
    with executor.session(len(pieces), reporter or Reporter()) as session:
        for piece in pieces:
            session.submit(piece)
        return {done.piece.label: done for done in session.finished()}


def simple(*values: int) -> list[Piece]:
    return [Piece(ray_pieces.number, {"value": value}, label=str(value)) for value in values]


def tries(folder: Path, name: str) -> int:
    return len((folder / name).read_text().split())


def test_dead_workers_and_what_raises_have_three_tries_and_the_rest_goes_on(joined, tmp_path: Path, capfd):
    note, said = {"folder": str(tmp_path)}, Said()
    found = over(
        joined,
        Piece(ray_pieces.dying, {**note, "name": "once", "times": 1}, label="once"),
        Piece(ray_pieces.dying, {**note, "name": "always", "times": 9}, label="always"),
        Piece(ray_pieces.raising, {**note, "name": "raising"}, label="raising"),
        *simple(7, 8),
        reporter=said,
    )
    assert (found["once"].value, found["once"].lost) == (2, "")
    assert (found["always"].value, found["always"].lost) == (None, "its worker died, in the last of 3 tries")
    assert found["raising"].lost == "ZeroDivisionError: this piece never works, in the last of 3 tries"
    assert [tries(tmp_path, name) for name in ("once", "always", "raising")] == [2, 3, 3]
    assert [found[name].value for name in ("7", "8")] == [7, 8]
    assert found["7"].where["node"].startswith("node-")
    assert any("once: its worker died; it begins again, try 2 of 3" in line for line in said.lines)
    assert sum("raising: ZeroDivisionError" in line for line in said.lines) == 2
    with pytest.raises(RunError, match="raising failed: ZeroDivisionError: this piece never works, in the last of 3"):
        found["raising"].result()
    captured = capfd.readouterr()
    assert "worker died or was killed" not in captured.out + captured.err  # Ray's own paragraphs


def test_an_error_that_every_try_would_meet_ends_it_at_once(joined, tmp_path: Path):
    refused = Piece(ray_pieces.refusing, {"folder": str(tmp_path), "name": "refused"}, label="refused")
    with pytest.raises(UserError, match="^on node .*/.*: eps '7' is more than 1"):
        over(joined, refused)
    assert tries(tmp_path, "refused") == 1
    assert over(joined, *simple(3))["3"].value == 3  # and leaves nothing behind that would hinder the next


@pytest.mark.parametrize("of_torch", [False, True])
def test_memory_that_runs_out_halves_the_batch(joined, of_torch: bool):
    hungry = {"of_torch": of_torch}
    found = over(
        joined,
        Piece(ray_pieces.hungry, {**hungry, "needed": 2}, label="twice"),
        Piece(ray_pieces.hungry, {**hungry, "needed": 3}, label="never"),
    )
    assert found["twice"].value == 2
    assert found["never"].lost == "memory ran out, in the last of 3 tries"


def test_an_interrupt_ends_what_runs_at_once(joined, ray_nodes: RayNodes):
    asleep = [Piece(ray_pieces.number, {"value": at, "seconds": 60.0}, label="asleep") for at in range(4)]
    first = Piece(ray_pieces.number, {"value": 7}, cost=1.0)
    with contextlib.suppress(KeyboardInterrupt), joined.session(5, Reporter()) as session:
        for piece in (*asleep, first):
            session.submit(piece)
        assert next(session.finished()).value == 7
        assert until(lambda: len(ray_nodes.busy()) == 2, 10)
        began = time.monotonic()
        raise KeyboardInterrupt
    assert time.monotonic() < began + 3
    assert until(lambda: not ray_nodes.busy(), 5), ray_nodes.busy()


def test_nothing_of_the_driver_travels_but_its_pieces(joined, ray_nodes: RayNodes):
    (done,) = over(joined, Piece(ray_pieces.surroundings, label="where")).values()
    there = done.value
    assert os.environ["ROBUSTKIT_TEST_SECRET"] == "sesame"
    assert "sesame" not in str(there)
    ours = {str(place) for place in map(Path, sys.path) if place.is_absolute() and "site-packages" not in str(place)}
    ours -= {str(ROOT), str(ROOT / "tests")}  # which the nodes were given
    assert not {place for place in ours if "python" not in place} & set(there["path"])
    assert there["folder"] == str(ray_nodes.folder)
    (job,) = [job for job in ray._private.state.jobs() if job["JobID"] == there["job"]]
    assert job["Entrypoint"] == "robustkit"
    assert str(Path.cwd()) not in str(job)


def received() -> dict[str, int]:
    """Return how many bytes of shared things each node's store has ever taken in, by node."""
    from ray._private.internal_api import node_stats

    alive = [node for node in ray.nodes() if node["Alive"]]
    stats = [node_stats(node["NodeManagerAddress"], node["NodeManagerPort"]) for node in alive]
    return {node["NodeID"]: said.store_stats.cumulative_created_bytes for node, said in zip(alive, stats, strict=True)}


def test_weights_and_a_split_go_to_each_node_once(joined):
    split = data.load("digits").split("test")
    weights, images = 4 * (1000 * 700 + 700), sum(part.nbytes for part in split.batch(range(len(split))))
    before, sent = received(), joined.sent
    joined.share("a model", torch.nn.Linear(1000, 700))
    joined.share("a split", split)
    joined.share("a model", torch.nn.Linear(1000, 700))  # known already
    size = joined.sent - sent
    assert weights + images <= size < 1.02 * (weights + images)
    asked = {"model": "a model", "split": "a split", "seconds": 0.3}
    pieces = [
        Piece(ray_pieces.weighed, asked, ("a model", "a split"), label=str(number)) for number in range(8)
    ]  # fmt: skip
    found = over(joined, *pieces)
    assert {done.value for done in found.values()} == {(700700, len(split))}
    places = {done.where["node"] for done in found.values()}
    grown = sorted(bytes_now - before[node] for node, bytes_now in received().items())
    assert len(places) == 2
    assert len(grown) == 3  # the head, where the driver puts them, and two nodes with four pieces each or so
    assert all(size <= bytes_taken < 1.02 * size for bytes_taken in grown), (size, grown)


def test_a_node_with_other_versions_is_named_with_both(joined, ray_nodes: RayNodes, tmp_path: Path):
    here = versions()
    (tmp_path / "torch-9.9.9.dist-info").mkdir()
    (tmp_path / "torch-9.9.9.dist-info" / "METADATA").write_text("Metadata-Version: 2.1\nName: torch\nVersion: 9.9.9\n")
    path = os.pathsep.join([str(tmp_path), str(ROOT), str(ROOT / "tests")])
    other = ray_nodes.add(1, PYTHONPATH=path)  # it joins while we run: who has joined before is asked at the start
    try:
        with pytest.raises(RunError, match=f"has other versions .torch 9.9.9 there, {here['torch']} here"):
            over(joined, *[Piece(ray_pieces.number, {"value": 1, "seconds": 1.0}, label=str(at)) for at in range(30)])
        with pytest.raises(UserError, match=f"torch 9.9.9 there, {here['torch']} here.; install the same on every"):
            joined.cluster.check()
    finally:
        ray_nodes.kill(other)


class _Unknown:
    """``ray.get`` as it is where a node has just joined, and nobody who hands out tasks knows it yet."""

    def __init__(self, times: int, get: Any) -> None:
        self.times, self.get, self.asked = times, get, set[Any]()

    def __call__(self, ref: Any, timeout: float | None = None) -> Any:
        if len(self.asked) < self.times:
            self.asked.add(ref)
            raise ray.exceptions.TaskUnschedulableError("no such node")
        return self.get(ref, timeout=timeout)


def test_a_node_that_has_just_joined_is_asked_again_and_one_that_leaves_is_not(joined, monkeypatch: pytest.MonkeyPatch):
    get = ray.get
    monkeypatch.setattr(ray, "get", unknown := _Unknown(3, get))
    joined.cluster.check()
    assert len(unknown.asked) == 3  # by a new task each time
    monkeypatch.setattr(_cluster, "JOINS", 0.5)
    monkeypatch.setattr(ray, "get", _Unknown(1000, get))
    with pytest.raises(UserError, match=r"node .+ of '.*' does not answer \(.*: no such node\); end it there"):
        joined.cluster.check()
    nodes = joined.cluster._alive()
    monkeypatch.setattr(ray, "get", _Unknown(1, get))
    gone = iter([nodes])
    monkeypatch.setattr(joined.cluster, "_alive", lambda: next(gone, set()))
    joined.cluster.check()  # the others have answered
    monkeypatch.setattr(ray, "get", _Unknown(1000, get))
    gone = iter([nodes])
    with pytest.raises(UserError, match="has no node; start one"):
        joined.cluster.check()


def test_robustkit_of_another_version_and_none_are_named():
    here = versions()
    other = f"robustkit is not installed there, {here['robustkit']} here"
    assert differing("host/1", {**here, "robustkit": "", "its source": ""}) == (
        f"node host/1 has other versions ({other}); install the same on every node."
    )
    assert f"(its source is older there, {here['its source']} here)" in differing("host/1", {**here, "its source": ""})
