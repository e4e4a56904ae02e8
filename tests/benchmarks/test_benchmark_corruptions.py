"""The benchmark of the corruptions measures all fifteen and writes its tables; no duration is judged here."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from benchmark_script import script

pytest.importorskip("cv2")


def test_all_fifteen_have_a_reference(tmp_path: Path):
    benchmark = script("corruptions")
    out, tables = tmp_path / "out.json", tmp_path / "tables.md"
    few = ["--sizes", "32", "--suites", "cifar-c", "--batch", "2", "--images", "1", "--repeats", "1"]
    assert benchmark.main([*few, "--json", str(out), "--markdown", str(tables)]) == 0
    result = json.loads(out.read_text())
    assert [row["name"] for row in result["rows"] if not row["reference"]] == ["frost, grown"]
    assert len(result["rows"]) == 16
    lines = tables.read_text().splitlines()
    assert lines[2].startswith("| cifar-c, 15 at 32 px | ")
    assert sum(line.startswith("| ") for line in lines) == 2 + 1 + 16
    assert lines[-1].count("load average") == 1
