"""The benchmark of searches takes the steps that it says; no duration is judged here."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from benchmark_script import script


def test_ways_take_turns(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    benchmark = script("search")
    out = tmp_path / "out.json"
    words = ["--sides", "8", "--batch", "4", "--nodes", "4", "--rounds", "1", "--device", "cpu", "--json", str(out)]
    assert benchmark.main(words) == 0
    rows = json.loads(out.read_text())["rows"]
    assert [row["way"] for row in rows] == ["plain, all channels", "plain", "ours, all channels", "ours"]
    for row in rows:
        assert row["wall"] > 0
        assert row["wall_against_plain"] == pytest.approx(rows[1]["wall"] / row["wall"])
    assert benchmark.main(["--sides", "6"]) == 2
    assert "too small for the two reductions" in capsys.readouterr().err
    assert benchmark.main(["--sides", "small"]) == 2
