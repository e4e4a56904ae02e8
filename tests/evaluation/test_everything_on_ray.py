"""Every suite on an instance of Ray: the numbers of threads, bit for bit; and where the cells ran is said."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from ray_cluster import ROOT

from robustkit import api
from robustkit.evaluation.executors._nodes import Nodes

ASKED: dict[str, Any] = {
    "defense": "baseline", "dataset": "digits", "arch": "lenet", "members": 2, "epochs": 1, "attacks": "pgd", "n": 12,
    "settings": {"pgd.steps": 2}, "eps": "0.1", "suites": "all", "trust": "quick", "formats": ("html", "md"),
}  # fmt: skip
TIMES = ("seconds", "started", "finished")


def numbers(value: Any) -> Any:
    """Return results without times."""
    if isinstance(value, dict):
        return {name: numbers(one) for name, one in value.items() if name not in TIMES}
    return [numbers(one) for one in value] if isinstance(value, list) else value


def test_all_suites_on_ray_give_the_numbers_of_threads(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    pytest.importorskip("ray")
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("PYTHONPATH", str(ROOT))  # where robustkit is not installed, workers find it so
    monkeypatch.setenv("ROBUSTKIT_CACHE", str(tmp_path / "cache"))
    api.evaluate(**ASKED, workers=1, out=tmp_path / "local")
    api.evaluate(**ASKED, executor="ray", out=tmp_path / "ray")
    local, there = (json.loads((tmp_path / name / "results.json").read_text()) for name in ("local", "ray"))
    assert "nodes" not in local
    placed = there.pop("nodes")
    assert {one["node"] for one in placed} == {"node-1"}
    assert {one["kind"] for one in placed} == {"clean", "attack", "transfer", "corruption"}
    for results in (local, there):
        results.pop("run")
    assert numbers(there) == numbers(local)
    assert local["corruptions"]
    assert local["detection"]
    assert local["diversity"]
    assert "Where the cells ran" in (tmp_path / "ray" / "report.html").read_text()
    assert not (tmp_path / ".ray").exists()


def test_nodes_have_neutral_names_and_shares_of_the_time():
    nodes = Nodes(open_seconds=10.0)
    assert nodes.ran("alpha/1234", 6.0) == {"node": "node-1", "host": "alpha"}
    assert nodes.ran("beta/5678", 4.0) == {"node": "node-2", "host": "beta"}
    assert nodes.ran("alpha/1234", 6.0)["node"] == "node-1"
    nodes.has("alpha/1234", 2)
    one, two = nodes.lines()
    assert "node-1 (alpha): 2 pieces of work, busy 60% of 10 s, 2 at a time" in one
    assert "node-2 (beta): 1 pieces of work, busy 40% of 10 s" in two
