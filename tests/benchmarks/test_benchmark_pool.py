"""The benchmark of pools scores what it says; no duration is judged here."""

from __future__ import annotations

import json
from pathlib import Path

from benchmark_script import script


def test_every_subset_is_counted(tmp_path: Path):
    benchmark = script("pool")
    out = tmp_path / "out.json"
    assert benchmark.main(["--members", "5", "--size", "2", "--n", "30", "--classes", "7", "--json", str(out)]) == 0
    (row,) = json.loads(out.read_text())["rows"]
    assert (row["n"], row["classes"], row["subsets"]) == (30, 7, 10)
    assert benchmark.main(["--members", "2", "--size", "3"]) == 2
