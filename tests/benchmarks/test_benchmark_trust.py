"""The benchmark of the trust checks runs, and its shares follow from the seconds; no duration is judged here."""

from __future__ import annotations

import importlib.util
import json
from pathlib import Path

import pytest

FOLDER = Path(__file__).parents[2] / "benchmarks"


def test_levels_and_shares(tmp_path: Path):
    spec = importlib.util.spec_from_file_location("benchmark_of_trust", FOLDER / "trust.py")
    assert spec
    assert spec.loader
    benchmark = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(benchmark)
    out = tmp_path / "out.json"
    asked = [
        "--defense",
        "baseline",
        "--arch",
        "networks:perceptron",
        "--epochs",
        "1",
        "--n",
        "40",
        "--attacks",
        "fgsm",
    ]
    assert benchmark.main([*asked, "--eps", "0.1", "--no-reference", "--json", str(out)]) == 0
    result = json.loads(out.read_text())
    assert result["attack_seconds"] > 0
    for row in result["levels"].values():
        assert row["share"] == pytest.approx(row["seconds"] / result["attack_seconds"])
        assert row["samples"][0] >= 32  # the fewest that a probe looks at
    assert benchmark.main([*asked, "--dataset", "nothing"]) == 2
