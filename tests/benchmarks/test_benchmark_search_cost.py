"""The benchmark of search costs runs both methods on the same data and counts their passes; no duration is judged."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from benchmark_script import script

from robustkit.functional.stats import wilson

SMALL = ["nodes=4", "width=4", "partial=1"]


@pytest.fixture(scope="module")
def benchmark():
    return script("search_cost")


def test_costs_are_those_of_the_searches_alone(benchmark, tmp_path: Path):
    settings = [f"{name}.{one}" for name in benchmark.METHODS for one in SMALL]
    settings += ["edgenes.hyper_share=2", "edgenes.candidates=2", "train.batch_size=32"]
    words = ["--images", "64", "--seeds", "0", "--members", "2", "--search-epochs", "1", "--epochs", "1"]
    words += [word for one in settings for word in ("--set", one)]
    assert benchmark.main([*words, "--out", str(tmp_path)]) == 0
    written = json.loads((tmp_path / "search_cost.json").read_text())
    (row,) = written["rows"]
    # Two epochs beside the optimum's one, against two searches; 64 images are two halves of 32, each passed once.
    assert (row["edgenes"]["passes"], row["darts-ensemble"]["passes"]) == (3 * 128, 2 * 128)
    assert row["passes_share"] == 1.5
    assert (
        row["processor_share"] == row["edgenes"]["processor_seconds"] / row["darts-ensemble"]["processor_seconds"] > 0
    )
    low, _ = wilson(round(500 * row["repeated_accuracy"]), 500)
    assert row["repeated_ci95"][0] == pytest.approx(low)
    assert row["within_interval"] == (row["accuracy"] >= low)
    assert sorted(path.name for path in tmp_path.iterdir() if path.is_dir()) == ["darts-ensemble-0", "edgenes-0"]


def test_bad_usage(benchmark, tmp_path: Path):
    assert benchmark.main(["--members", "7", "--seeds", "0", "--out", str(tmp_path)]) == 2  # of six candidates
