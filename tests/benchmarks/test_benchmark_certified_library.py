from __future__ import annotations

import importlib.util
import json

import pytest
import torch
from benchmark_script import script
from torch import nn

if importlib.util.find_spec("bound_propagation") is None:
    pytest.skip("bound-propagation is not installed", allow_module_level=True)


@pytest.fixture
def benchmark():
    return script("certified_library")


def small() -> tuple[nn.Sequential, torch.Tensor]:
    torch.manual_seed(0)
    network = nn.Sequential(
        nn.Conv2d(1, 4, 4, 2, 1), nn.ReLU(), nn.Conv2d(4, 3, 3, 1, 1), nn.ReLU(), nn.Flatten(),
        nn.Linear(48, 12), nn.ReLU(), nn.Linear(12, 10),
    )  # fmt: skip
    return network.eval().requires_grad_(False).double(), torch.rand(2, 1, 8, 8, dtype=torch.float64)


def test_our_bounds_are_the_librarys_on_a_network_of_convolutions(benchmark):
    network, x = small()
    flat = benchmark.dense(network, x[:1])
    assert [type(layer) for layer in flat] == [nn.Linear, nn.ReLU] * 3 + [nn.Linear]
    row = benchmark.compared(network, flat, x[:1], 0.05)
    assert row["least_difference"] == pytest.approx(0, abs=1e-9)
    assert row["greatest_difference"] == pytest.approx(0, abs=1e-9)
    assert min(row["ours_s"], row["theirs_s"]) > 0


def test_every_image_is_measured_and_a_bound_below_the_librarys_fails(benchmark, monkeypatch, tmp_path, capsys):
    monkeypatch.setattr(benchmark, "_subject", lambda *_: small())
    out = tmp_path / "out.json"
    assert benchmark.main(["--eps", "1/255", "--json", str(out)]) == 0
    rows = json.loads(out.read_text("utf-8"))
    assert len(rows) == 2
    assert "times as fast, median" in capsys.readouterr().out
    monkeypatch.setattr(benchmark, "compared", lambda *_: {**rows[0], "least_difference": -0.1})
    assert benchmark.main([]) == 1
