"""The benchmark of the trust checks runs, and its shares follow from the seconds; no duration is judged here."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from benchmark_script import script

ASKED = ["--defense", "baseline", "--arch", "networks:perceptron", "--epochs", "1", "--n", "40", "--attacks", "fgsm"]


@pytest.fixture
def benchmark() -> ModuleType:
    return script("trust")


def taking(benchmark: ModuleType, monkeypatch: pytest.MonkeyPatch, seconds: Sequence[float], run: bool = True) -> None:
    """Let the runs take these seconds, one after another; they are really made where ``run`` is true."""
    timed, told = benchmark._timed, iter(seconds)

    def instead(asked: dict[str, Any]) -> float:
        if run:
            assert timed(asked) > 0
        return next(told)

    monkeypatch.setattr(benchmark, "_timed", instead)


def test_levels_and_shares(benchmark: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    taking(benchmark, monkeypatch, [9.0, 5.0, 1.0, 2.0, 4.0])  # trains, attacks, nothing to do, quick, full
    out = tmp_path / "out.json"
    assert benchmark.main([*ASKED, "--eps", "0.1", "--no-reference", "--json", str(out)]) == 0
    result = json.loads(out.read_text())
    assert (result["attack_seconds"], result["idle_seconds"]) == (4.0, 1.0)
    assert {name: (row["seconds"], row["share"]) for name, row in result["levels"].items()} == {
        "quick": (1.0, 0.25), "full": (3.0, 0.75),
    }  # fmt: skip
    for row in result["levels"].values():
        assert row["samples"][0] >= 32  # the fewest that a probe looks at


def test_bad_usage_is_a_sentence(benchmark: ModuleType, capsys: pytest.CaptureFixture[str]):
    assert benchmark.main([*ASKED, "--dataset", "nothing"]) == 2
    assert "nothing" in capsys.readouterr().err


def test_attacks_that_take_no_time_are_not_compared(benchmark, monkeypatch, capsys: pytest.CaptureFixture[str]):
    taking(benchmark, monkeypatch, [9.0, 1.0, 1.5], run=False)
    assert benchmark.main(ASKED) == 2
    assert "1.00 s, no longer than the 1.50 s" in capsys.readouterr().err
