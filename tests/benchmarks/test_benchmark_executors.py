"""The simulation drives the real plan, chains, store and queue: near the ideal makespan, nothing done twice."""

from __future__ import annotations

import importlib
import sys
from pathlib import Path

import pytest
import torch

from robustkit.base.progress import Reporter
from robustkit.evaluation.cell import RunOptions
from robustkit.evaluation.execute import Craftings, execute
from robustkit.evaluation.executors import Piece
from robustkit.evaluation.executors._queue import Queue, finished
from robustkit.records.store import Store

sys.path.insert(0, str(Path(__file__).parents[2] / "benchmarks"))
benchmark = importlib.import_module("executors")
simulation, nodes = importlib.import_module("_simulation"), importlib.import_module("_nodes")
sys.path.pop(0)


@pytest.mark.parametrize("workers", [2, 16])
def test_the_makespan_is_near_the_ideal_and_every_cell_is_stored(workers, tmp_path):
    found = simulation.simulate(300, workers, tmp_path)
    study = simulation.plan(300)
    assert found["cells"] == len({cell.key for cell in study.cells()}) >= 300
    assert {cell.key for cell in Store(tmp_path).cells()} == {cell.key for cell in study.cells()}
    assert 0 <= found["over_ideal"] < 0.10 + (workers > 2) * 0.15  # so few cells leave a tail on many workers
    assert found["makespan"] * workers * found["busy"] == pytest.approx(sum(simulation.lengths(study).values()))
    assert found["grown"] < 100


def test_a_second_run_has_nothing_to_do(tmp_path):
    simulation.simulate(1, 4, tmp_path)
    assert simulation.simulate(1, 4, tmp_path)["makespan"] == 0


def test_a_chain_is_released_one_after_the_other(tmp_path, monkeypatch):
    starts, ends = {}, {}
    start, ended = simulation.Simulated.start, simulation.Simulated.ended

    def started(self, ticket):
        starts[ticket.piece.arguments["cell"].key] = ticket.piece.arguments["cell"], self.now
        start(self, ticket)

    def over(self):
        found = ended(self)
        ends.update({ticket.piece.arguments["cell"].key: self.now for ticket, _ in found})
        return found

    monkeypatch.setattr(simulation.Simulated, "start", started)
    monkeypatch.setattr(simulation.Simulated, "ended", over)
    simulation.simulate(1, 128, tmp_path)
    after = [(cell, now) for cell, now in starts.values() if cell.after]
    assert len(after) > 20
    assert all(now >= ends[cell.after] for cell, now in after)


def test_the_longest_rest_goes_first():
    workers = simulation.Simulated(1, {})
    assert workers.room()
    queue = Queue()
    for cost in (1.0, 9.0, 3.0):
        queue.put(Piece(print, cost=cost))
    assert [queue.take().piece.cost for _ in range(3)] == [9.0, 3.0, 1.0]
    assert list(finished(Queue(), workers)) == []


def test_usage(capsys):
    assert benchmark.main(["--workers", "two"]) == 2
    assert "'two' workers" in capsys.readouterr().err


def test_a_missed_target_is_named():
    row = {"workers": 2, "over_ideal": 0.2, "per_second": 299.0, "memory": {"uss": 477.0}}
    assert [what.split()[0] for what in benchmark._missed(row)] == ["20.0%", "299", "477"]
    assert benchmark._missed({**row, "over_ideal": 0.1, "per_second": 300.0, "memory": {"uss": 476.0}}) == []


def test_what_a_second_node_gave_is_the_median_of_the_turns():
    one = {"nodes": 1, "seconds": 20.0, "overhead": 0.02, "weights": 100, "sent": 110, "returned": 30, "arrived": [140]}
    two = {**one, "nodes": 2, "seconds": 11.0, "overhead": 0.06, "arrived": [150, 120]}
    thread = {"nodes": 0, "processes": 1, "seconds": 19.0}
    both = {**thread, "processes": 2, "seconds": 10.0}
    said, missed = benchmark.gained([thread, both, one, two, one, two, {**one, "seconds": 90.0}, two])
    assert "1.82 times as fast as one, two processes without Ray 1.90; 60 ms" in said
    assert "arrived 1.15 times" in said
    assert missed == []
    _, missed = benchmark.gained([thread, both, one, {**two, "overhead": 0.07, "seconds": 12.0, "arrived": [250, 90]}])
    assert [what.split()[0] for what in missed] == ["two", "70", "the"]
    assert "1.67 times as fast as one (1.90 without Ray)" in missed[0]


def test_two_processes_take_half_the_chains_each_at_the_same_time(monkeypatch):
    asked = []

    def alone(*words):
        asked.append(words)
        late = int(words[2])
        return {"nodes": 0, "chains": 12, "began": 100.0 + late, "ended": 110.0 + 2 * late, "seconds": 10.0 + late}

    monkeypatch.setattr(benchmark, "alone", alone)
    found = benchmark.together(2)
    assert sorted(asked) == [("nodes", "--part", "0", "2"), ("nodes", "--part", "1", "2")]
    assert (found["seconds"], found["chains"], found["processes"]) == (12.0, 24, 2)


def test_the_chains_on_real_nodes_are_equally_long(tmp_path):
    ensemble, split = nodes.subject(2)
    study = nodes.plan(ensemble, split, 2)
    assert [len(chain) for chain in study.chains()] == [3] * 24
    halves = [nodes.plan(ensemble, split, 2, part, 2) for part in (0, 1)]
    assert {cell.key for half in halves for cell in half.cells()} == {cell.key for cell in study.cells()}
    assert [len(half.chains()) for half in halves] == [12, 12]
    options = RunOptions(torch.device("cpu"))
    craftings = Craftings(study, {study.ensembles[0].key: ensemble}, split, options, Reporter())
    execute(study, {study.ensembles[0].key: ensemble}, split, Store(tmp_path), options, Reporter(), craftings)
    runs = [Store(tmp_path).get(cell) for chain in study.chains() for cell in chain]
    assert len({int(run.samples.backwards.sum()) for run in runs}) == 1
