"""The benchmark of smallest distances on a network whose distances are known; no duration is judged here."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from benchmark_script import script
from torch import nn


@pytest.fixture
def benchmark() -> Any:
    return script("minimum_norm")


def linear() -> tuple[nn.Module, torch.Tensor, torch.Tensor, torch.Tensor]:
    """Two classes divided by a plane, images near it, their classes, and how far they are in l2."""
    generator = torch.Generator().manual_seed(0)
    normal = torch.randn(16, generator=generator)
    net = nn.Sequential(nn.Flatten(), nn.Linear(16, 2))
    with torch.no_grad():
        net[1].weight.copy_(torch.stack([normal, -normal]))
        net[1].bias.copy_(torch.tensor([-1.0, 1.0]) * 0.5 * normal.sum())
    x = 0.5 + 0.1 * (torch.rand((12, 1, 4, 4), generator=generator) - 0.5)
    net.eval().requires_grad_(False)
    z = net(x)
    return net, x, z.argmax(1), (z[:, 0] - z[:, 1]).abs() / (2 * normal.norm())


def test_distances_are_those_of_the_plane_and_times_are_compared(benchmark, monkeypatch, tmp_path: Path, capsys):
    pytest.importorskip("foolbox")
    model, x, y, far = linear()
    monkeypatch.setattr(benchmark, "subject", lambda name, args: (model, x, y))
    monkeypatch.setattr(benchmark.peers, "installed", lambda peer: peer == "foolbox")
    out, text = tmp_path / "out.json", tmp_path / "out.md"
    argv = ["--models", "digits", "--only", "ddn,cw-l2-200", "--json", str(out), "--markdown", str(text)]
    assert benchmark.main(argv) == 0
    assert "adv-lib is not installed, and left out" in capsys.readouterr().out
    found = {(row["row"], row["implementation"]): row for row in json.loads(out.read_text())}
    assert {name for name, _ in found} == {"ddn-l2-100", "cw-l2-200"}
    for name in ("ddn-l2-100", "cw-l2-200"):
        own, peer = found[name, "robustkit"], found[name, "foolbox"]
        assert own["found"] == peer["found"] == 1
        assert own["mean"] == pytest.approx(float(far.mean()), rel=0.02)
        assert own["median"] == pytest.approx(float(far.median()), rel=0.05)
        assert own["passes"] > 1
        assert peer["passes"] is None
        assert len(own["seconds"]) == len(peer["seconds"]) == 2
        (line,) = (line for line in text.read_text().splitlines() if f"| {name} | foolbox |" in line)
        faster = min(peer["seconds"]) / min(own["seconds"])
        assert line.endswith(f"| {faster:.2f}x, {own['mean'] / peer['mean']:.3f} |")


def test_the_elastic_net_is_the_square_and_a_hundredth_of_the_sum(benchmark):
    (row,) = (row for row in benchmark.ROWS if row.name == "ead-en-200")
    assert row.distance(torch.tensor([[[[3.0, -4.0]]]])).tolist() == pytest.approx([25 + 0.01 * 7])
    assert row.params()["decision_rule"] == "EN"


@pytest.mark.parametrize(
    ("argv", "said"),
    [
        (["--models", "mnist"], "unknown model 'mnist'"),
        (["--only", "dnd"], "unknown row 'dnd'"),
        (["--peers", "foolbax"], "unknown library 'foolbax'"),
    ],
)
def test_bad_usage_is_a_sentence(benchmark, argv: list[str], said: str, capsys: pytest.CaptureFixture[str]):
    assert benchmark.main(argv) == 2
    assert said in capsys.readouterr().err
