"""The benchmark runs, says everything that it promises, and is rendered; no duration is judged here."""

from __future__ import annotations

import contextlib
import importlib
import importlib.util
import json
import signal
import time
from pathlib import Path
from types import ModuleType

import pytest
from benchmark_script import script

from robustkit.data import Dataset
from robustkit.ensembles.checkpoint import save_ensemble
from robustkit.ensembles.ensemble import Ensemble

PEERS = {"torchattacks": "torchattacks", "foolbox": "foolbox", "art": "art", "adv-lib": "adv_lib"}
THERE = {name for name, module in PEERS.items() if importlib.util.find_spec(module)}
WORKLOAD = {
    "name", "title", "attack", "norm", "eps", "params", "minimum", "transfer", "images", "orders", "floor_passes",
    "floor_pass_seconds", "floor_pass_all_seconds", "floor_seconds", "results", "comparison",
}  # fmt: skip
RESULT = {
    "implementation", "ours", "seconds", "all_seconds", "ratio_to_floor", "robust_accuracy", "distance", "max_linf",
    "outside_box", "left_box", "left_ball", "peak_memory_mib", "as_successful", "note", "error", "errors", "matrix",
}  # fmt: skip


@pytest.fixture
def benchmark() -> ModuleType:
    """The script as a module; its helpers are found where they are when it is run."""
    return script("attacks")


@pytest.fixture
def checkpoint(lenets: Ensemble, digits: Dataset, tmp_path: Path) -> Path:
    arch = ["lenet"] * len(lenets)
    save_ensemble(lenets, tmp_path / "ensemble", arch=arch, classes=list(digits.classes), shape=digits.shape)
    return tmp_path / "ensemble"


@pytest.fixture
def run(benchmark: ModuleType, checkpoint: Path, tmp_path: Path):
    def go(only: str, *more: str) -> dict:
        out = tmp_path / "out.json"
        argv = ["--quick", "--n", "4", "--n-jsma", "2", "--checkpoint", str(checkpoint), "--json", str(out)]
        assert benchmark.main([*argv, "--device", "cpu", "--only", only, *more]) == 0
        return json.loads(out.read_text())

    return go


def test_every_field_is_there_and_ratios_follow_from_the_seconds(run):
    asked = ["pgd-10", "jsma-pair", "transfer"]
    result = run(",".join(asked), "--speeds", "auto,off", "--batch-size", "3")
    assert [row["name"] for row in result["workloads"]] == asked
    assert set(result["missing"]) == set(PEERS) - THERE
    assert {"machine", "versions", "subject", "settings", "command", "date", "crafting"} <= set(result)
    assert {"cpu", "flags", "threads", "cores", "device"} <= set(result["machine"])
    for index, row in enumerate(result["workloads"]):
        assert set(row) == WORKLOAD
        names = [found["implementation"] for found in row["results"]]
        assert names == ["robustkit", "robustkit-off", *(name for name in PEERS if name in THERE)]
        assert row["orders"] == [names[index % len(names) :] + names[: index % len(names)]]
        assert row["floor_seconds"] == pytest.approx(min(row["floor_pass_all_seconds"]) * row["floor_passes"])
        done = [found for found in row["results"] if found["error"] is None]
        assert {found["error"] for found in row["results"]} <= {None, "not offered"}
        for found in done:
            assert set(found) >= RESULT
            assert found["ratio_to_floor"] == pytest.approx(found["seconds"] / row["floor_seconds"])
            assert 0 <= found["robust_accuracy"] <= 1
            assert not found["left_ball"]
            assert not found["left_box"]
            assert found["errors"] == 0
        assert done[0]["robust_accuracy"] == pytest.approx(done[1]["robust_accuracy"], abs=1e-6)
        peers = [found for found in done if not found["ours"]]
        assert (row["comparison"] is None) == (not peers)
        if peers:
            able = [found for found in peers if found["as_successful"]] or peers
            fastest = min(able, key=lambda found: found["seconds"])
            assert row["comparison"]["peer"] == fastest["implementation"]
            assert row["comparison"]["ratio"] == pytest.approx(fastest["seconds"] / done[0]["seconds"])
    assert [len(row["results"][0]["matrix"] or []) for row in result["workloads"]] == [0, 0, 4]


@pytest.mark.skipif("foolbox" not in THERE, reason="foolbox is not installed")
def test_smallest_perturbations_and_the_rendered_page(run, benchmark: ModuleType, tmp_path: Path):
    result = run("cw,ead,jsma,square-1000", "--peers", "foolbox")
    sizes = {row["name"]: [found.get("distance") for found in row["results"]] for row in result["workloads"]}
    assert all(set(size) == {"mean", "median", "images"} for row in sizes.values() for size in row if size)
    assert sizes["square-1000"] == [None, None]
    assert all(size["images"] > 0 for size in sizes["ead"])
    page = tmp_path / "docs" / "benchmarks.md"
    page.parent.mkdir()
    page.write_text("# Ours\n\nbefore\n\n<!-- table -->\nold\n<!-- /table -->\n\nafter\n")
    for _ in range(2):  # what is rendered can be rendered again
        assert benchmark.main(["--render", str(tmp_path / "out.json"), "--out", str(page.parent)]) == 0
        text = page.read_text()
        assert text.startswith("# Ours\n\nbefore\n\n<!-- table -->")
        assert text.endswith("<!-- /table -->\n\nafter\n")
        assert "old" not in text
        lines = [line for line in text.splitlines() if line.startswith("| ")]
        assert len({line.count("|") for line in lines[:5]}) == 1
        assert "| EAD, 5 x 200 steps, beta .01 |" in text
        assert "not offered" in text  # JSMA of foolbox
        assert "no figure here means anything" in text
    assert (page.parent / "images" / "benchmark.png").read_bytes().startswith(b"\x89PNG")
    both = [str(tmp_path / "out.json")] * 2
    assert benchmark.main(["--render", *both, "--out", str(page.parent)]) == 0
    assert page.read_text().count("| EAD, 5 x 200 steps, beta .01 (") == 2 * 2  # seconds and memory of either
    other = {**result, "workloads": [{**row, "results": row["results"][:1]} for row in result["workloads"]]}
    (tmp_path / "other.json").write_text(json.dumps(other))
    assert benchmark.main(["--render", both[0], str(tmp_path / "other.json"), "--out", str(page.parent)]) == 2


def test_who_is_as_successful(benchmark: ModuleType):
    compare = importlib.import_module("_measure").compare

    def found(name: str, seconds: float, accuracy: float, mean: float | None = None, box: bool = False) -> dict:
        return {
            "implementation": name, "ours": name == "robustkit", "seconds": seconds, "robust_accuracy": accuracy,
            "distance": None if mean is None else {"mean": mean}, "left_box": box, "left_ball": False,
        }  # fmt: skip

    fixed = [found("robustkit", 1, 0.25), found("a", 2, 0.40), found("b", 3, 0.35), found("c", 4, 0.1)]
    assert compare(fixed, 10, False) == {"implementation": "robustkit", "peer": "b", "ratio": 3.0, "reached": True}
    assert [r["as_successful"] for r in fixed] == [True, False, True, True]
    minimum = [found("robustkit", 1, 0.0, 1.0), found("a", 2, 0.0, 1.02), found("b", 3, 0.1, 0.5)]
    assert compare(minimum, 10, True) == {"implementation": "robustkit", "peer": "a", "ratio": 2.0, "reached": False}
    minimum += [found("c", 5, 0.0, 1.009), found("d", 4, 0.0, 0.5, box=True)]
    assert compare(minimum, 10, True)["peer"] == "c"
    assert compare(minimum[:1], 10, True) is None


def test_a_peer_that_crashes_or_never_ends_is_recorded(run, benchmark: ModuleType, monkeypatch: pytest.MonkeyPatch):
    peers = importlib.import_module("_peers")

    def crash(*_):
        raise ValueError("no,\nnot today")

    def hang(*_):
        while True:
            with contextlib.suppress(Exception):  # the limit must not be swallowed
                time.sleep(0.01)

    monkeypatch.setattr(peers, "RUNS", {"torchattacks": crash, "foolbox": hang})
    monkeypatch.setattr(peers, "installed", lambda name: True)
    limit = "0.2" if hasattr(signal, "setitimer") else "0"
    chosen = "torchattacks,foolbox" if limit != "0" else "torchattacks"
    (row,) = run("pgd-10", "--peers", chosen, "--peer-timeout", limit)["workloads"]
    errors = [found["error"] for found in row["results"]]
    assert errors[:2] == [None, "ValueError: no, not today"]
    assert errors[2:] in ([], ["stopped after 0.2 s"])
    assert row["comparison"] is None


@pytest.mark.parametrize(
    "argv", [["--only", "pdg-10"], ["--peers", "clever"], ["--data", "x.npz"], ["--checkpoint", "nowhere"]]
)
def test_bad_usage_is_one_sentence(benchmark: ModuleType, argv: list[str], tmp_path: Path, capsys):
    assert benchmark.main([*argv, "--json", str(tmp_path / "out.json")]) == 2
    assert capsys.readouterr().err.startswith("error: ")
    assert not (tmp_path / "out.json").exists()
