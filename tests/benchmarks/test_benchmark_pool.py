"""The benchmark of pools scores what it says; no duration is judged here."""

from __future__ import annotations

import importlib.util
import json
from pathlib import Path

FOLDER = Path(__file__).parents[2] / "benchmarks"


def test_every_subset_is_counted(tmp_path: Path):
    spec = importlib.util.spec_from_file_location("benchmark_of_pools", FOLDER / "pool.py")
    assert spec
    assert spec.loader
    benchmark = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(benchmark)
    out = tmp_path / "out.json"
    assert benchmark.main(["--members", "5", "--size", "2", "--n", "30", "--classes", "7", "--json", str(out)]) == 0
    (row,) = json.loads(out.read_text())["rows"]
    assert (row["n"], row["classes"], row["subsets"]) == (30, 7, 10)
    assert benchmark.main(["--members", "2", "--size", "3"]) == 2
