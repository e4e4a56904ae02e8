"""The sound check certifies, attacks, and would see a certificate that is broken."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from benchmark_script import script


@pytest.fixture
def benchmark():
    return script("sound")


def test_something_is_certified_and_nothing_of_it_broken(benchmark, monkeypatch: pytest.MonkeyPatch, tmp_path: Path):
    monkeypatch.setattr(benchmark, "IMAGES", 12)
    monkeypatch.setattr(benchmark, "RULES", ("mean-prob",))
    monkeypatch.setattr(benchmark, "checked", lambda seed, whole=benchmark.checked: whole(seed, 12))
    assert benchmark.main(["--seconds", "0", "--json", str(tmp_path / "out.json")]) == 0
    result = json.loads((tmp_path / "out.json").read_text())
    assert result["samples"] == 24
    assert result["networks"] == 3
    assert 0 < result["certified"] <= 24
    assert result["broken"] == 0


def test_a_false_certificate_is_seen(benchmark, monkeypatch: pytest.MonkeyPatch):
    class Everything:
        floor = torch.ones(12)

    monkeypatch.setattr(benchmark.fusing, "certify", lambda *given: Everything())
    monkeypatch.setattr(benchmark, "RULES", ("mean-logit",))
    monkeypatch.setattr(benchmark, "BUDGETS", ((0.5, "linf"),))
    assert benchmark.checked(0, 12)["broken"] > 0
