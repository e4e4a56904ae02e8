"""The same plan on one node of Ray and on two, with real pieces: how much faster, what a piece costs beside its work.

The nodes are Ray's own (``ray.cluster_utils.Cluster``) on this machine, one CPU each, behind a head without any; each
has processes and an object store of its own, so that what one is sent has to be sent. The plan is one that robustkit
runs: 24 chains of PGD over three budgets on one ensemble, all of them equally long, since the budgets are far too small
to break anything and the labels are the ensemble's own answers. Its weights are most of what there is to send.
"""

from __future__ import annotations

import io
import math
import os
import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from _memory import memory
from rich.console import Console
from torch import nn

from robustkit.attacks import spec
from robustkit.base.progress import Reporter
from robustkit.data import Split
from robustkit.ensembles.ensemble import Ensemble, Member
from robustkit.evaluation import executors
from robustkit.evaluation.cell import RunOptions
from robustkit.evaluation.execute import Craftings, execute
from robustkit.evaluation.executors import Executor, Piece
from robustkit.evaluation.executors._address import read
from robustkit.records.cells import DatasetRecord, EnsembleRecord
from robustkit.records.store import Store
from robustkit.study.plan import Study

CHAINS, EPS = 24, (1e-6, 2e-6, 3e-6)
MEMBERS, CLASSES, SHAPE, WIDTH = 3, 10, (3, 32, 32), 1024
EMPTY = 100  # pieces that do nothing, for each node


def nothing(worker: Any, seconds: float = 0.0) -> None:
    """Take so long, and do nothing: a piece of work."""
    time.sleep(seconds)


def subject(images: int) -> tuple[Ensemble, Split]:
    """Return an ensemble that nobody has trained, and random images with its own answers as labels."""
    torch.manual_seed(0)
    mean, std = [0.5] * SHAPE[0], [0.25] * SHAPE[0]
    ensemble = Ensemble([Member(_network(), mean, std) for _ in range(MEMBERS)]).eval()
    x = torch.rand(images, *SHAPE)
    with torch.no_grad():
        y = ensemble(x).argmax(1)
    return ensemble, Split(x, y)


def _network() -> nn.Module:
    inputs = math.prod(SHAPE)
    layers = [nn.Linear(inputs, WIDTH), nn.ReLU(), nn.Linear(WIDTH, WIDTH), nn.ReLU(), nn.Linear(WIDTH, CLASSES)]
    return nn.Sequential(nn.Flatten(), *layers)


def plan(ensemble: Ensemble, split: Split, steps: int, part: int = 0, parts: int = 1) -> Study:
    """Return a study of :data:`CHAINS` chains that differ by the size of a step alone, or of one part in ``parts``."""
    key = ensemble.fingerprint()
    record = EnsembleRecord("e", key, "none", {}, ("perceptron",) * MEMBERS, MEMBERS, "mean-prob", key)
    data = DatasetRecord("random", "test", len(split), tuple(map(str, range(CLASSES))), split.sha256(), SHAPE)
    attacks = tuple(spec("pgd", steps=steps, step_size=1e-7 * (1 + at)) for at in range(part, CHAINS, parts))
    return Study((record,), data, attacks, EPS, "linf", EPS[-1], suites=("attacks",), reference=False)


@contextmanager
def started(nodes: int) -> Iterator[str]:
    """Start nodes of one CPU each, and a head of none; yield its address."""
    os.environ["PYTHONPATH"] = os.pathsep.join([str(Path(__file__).parent), os.environ.get("PYTHONPATH", "")])
    with tempfile.TemporaryDirectory(prefix="rk-") as folder:  # its own, and short: sockets lie in it
        os.environ |= {"RAY_USAGE_STATS_ENABLED": "0", "RAY_TMPDIR": folder}
        from ray.cluster_utils import Cluster

        cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 0, "include_dashboard": False})
        try:
            for _ in range(nodes):
                cluster.add_node(num_cpus=1)
            yield str(cluster.address)
        finally:
            cluster.shutdown()


def measure(nodes: int, images: int, steps: int, folder: Path, part: int = 0, parts: int = 1) -> dict[str, Any]:
    """Run the plan, or one part of its chains in ``parts``, on so many nodes; 0: in one thread of this process.

    Returns
    -------
    dict
        ``seconds`` of the plan, from its first piece to its last record (``began`` and ``ended`` by the clock), with
        workers that are there already (``start_seconds`` before it: joining, and importing torch there); ``work`` is
        how long the pieces ran, ``idle`` how long nodes had nothing left while another ended its last piece, and
        ``overhead`` the rest of the nodes' time for each of the ``pieces``; ``empty`` is the time of a piece that does
        nothing; ``sent`` are the bytes that were put where nodes fetch them, ``arrived`` those that each node has of
        it in the end, with what its pieces ``returned``; ``weights`` are those of the ensemble; ``memory``
        is that of this process.
    """
    os.environ["ROBUSTKIT_CACHE"] = str(folder / "cache")
    torch.set_num_threads(1)
    ensemble, split = subject(images)
    study = plan(ensemble, split, steps, part, parts)
    if not nodes:
        return {**_run(study, ensemble, split, None, folder), **dict.fromkeys(("start_seconds", "empty"), 0.0)}
    with started(nodes) as address:
        began = time.perf_counter()
        executor: Any = executors.executor.get("ray")(torch.device("cpu"), read(address))
        with executors.opened(executor):
            _pieces(executor, 2 * nodes, 1.0)
            ready = time.perf_counter() - began
            empty = _pieces(executor, EMPTY * nodes, 0.0) / EMPTY
            found = _run(study, ensemble, split, executor, folder)
            arrived = [_arrived(node) for node in executor.cluster.ray.nodes() if node["Resources"].get("CPU")]
            return {**found, "start_seconds": ready, "empty": empty, "sent": executor.sent, "arrived": arrived}


def _pieces(executor: Executor, count: int, seconds: float) -> float:
    """Run pieces that do nothing; return the seconds of all."""
    began = time.perf_counter()
    with executor.session(count, Reporter()) as session:
        for _ in range(count):
            session.submit(Piece(nothing, {"seconds": seconds}))
        assert sum(1 for _ in session.finished()) == count
    return time.perf_counter() - began


def _run(study: Study, ensemble: Ensemble, split: Split, executor: Any, folder: Path) -> dict[str, Any]:
    options = RunOptions(torch.device("cpu"), workers=1, executor=executor)
    quiet, ensembles = Reporter(Console(file=io.StringIO(), width=200)), {study.ensembles[0].key: ensemble}
    before, ended = _worked(executor), _ends(executor)
    craftings = Craftings(study, ensembles, split, options, quiet)
    craftings.of(study.ensembles[0].key)  # a trial in this process, once on a machine, whoever runs the pieces
    began = time.perf_counter()
    execute(study, ensembles, split, Store(folder), options, quiet, craftings)
    took, ended_at = time.perf_counter() - began, time.time()
    pieces, work = (after - old for after, old in zip(_worked(executor), before, strict=True))
    nodes = len(executor.nodes.lines()) if executor else 1
    idle = sum(max(ended.values()) - end for end in ended.values())
    weights = sum(value.nbytes for value in ensemble.state_dict().values())
    return {
        "weights": weights, "sent": 0, "arrived": [], "returned": len([*study.cells()]) * split.x.nbytes,
        "nodes": nodes if executor else 0,
        "chains": len(study.chains()), "cells": len([*study.cells()]),
        "pieces": pieces, "began": ended_at - took, "ended": ended_at, "seconds": took, "work": work, "idle": idle,
        "overhead": (took * nodes - work - idle) / pieces if pieces else 0.0,
        "memory": memory(), "load": os.getloadavg()[0],
    }  # fmt: skip


def _ends(executor: Any) -> dict[str, float]:
    """Return when the driver heard of the last piece of each node, by its place; filled while an executor works."""
    ended: dict[str, float] = {}
    if executor:
        ran = executor.nodes.ran

        def noted(place: str, seconds: float) -> Any:
            ended[place] = time.perf_counter()
            return ran(place, seconds)

        executor.nodes.ran = noted
    return ended


def _worked(executor: Any) -> tuple[int, float]:
    """Return how many pieces an executor's nodes have ended, and how long these ran."""
    done = executor.nodes._found.values() if executor else ()
    return sum(node.pieces for node in done), sum(node.seconds for node in done)


def _arrived(node: Mapping[str, Any]) -> int:
    """Return the bytes of all objects that a node's store ever held."""
    from ray._private.internal_api import node_stats

    stats = node_stats(node["NodeManagerAddress"], node["NodeManagerPort"])
    return int(stats.store_stats.cumulative_created_bytes)
