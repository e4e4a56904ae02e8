"""The benchmark of training runs and its figures follow from the seconds; no duration is judged here."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from benchmark_script import script


@pytest.fixture
def benchmark():
    return script("training")


def test_rows_ratios_and_floors(benchmark, tmp_path: Path):
    out = tmp_path / "out.json"
    argv = ["--arch", "small-resnet", "--size", "8", "--channels", "1"]
    argv += ["--steps", "2", "--repeats", "2", "--batch-size", "8"]
    assert benchmark.main([*argv, "--defenses", "baseline,adp,advt-fgsm", "--json", str(out)]) == 0
    result = json.loads(out.read_text())
    rows = result["rows"]
    assert list(rows) == ["plain PyTorch loop", "robustkit, off", "robustkit, auto", "adp", "advt-fgsm"]
    for row in rows.values():
        assert len(row["all_seconds"]) == 2
        assert row["seconds"] == min(row["all_seconds"]) > 0
        assert row["images_per_second"] == pytest.approx(8 / row["seconds"])
    expected = rows["robustkit, auto"]["seconds"] + 0.5 * result["input_gradient"]
    assert rows["advt-fgsm"]["floor_seconds"] == pytest.approx(expected)
    assert rows["robustkit, off"]["way"] == "as it is"
    # 3x3 convolutions of ResNet-8 on 8x8 (widths 16, 32, 64; strides 2), its shortcuts and linear layer, by hand.
    layers = [(1, 16, 8), (16, 16, 8), (16, 16, 8), (16, 32, 4), (32, 32, 4), (32, 64, 2), (64, 64, 2)]
    multiplied = sum(a * b * side**2 * 9 for a, b, side in layers) + 64 * 10
    first = 1 * 16 * 8**2 * 9  # whose input needs no gradient
    products = result["products"]
    assert products["flops"] == 2 * 8 * 3 * (3 * multiplied - first)
    text = benchmark.table(result)
    assert text.row_count == 5
    reached = rows["plain PyTorch loop"]["seconds"] * products["speeds"]["float32"] / products["flops"]
    assert f"GFLOP/s in float32 ({reached:.1f}x)" in str(text.caption)


def test_unknown_defence_is_one_sentence(benchmark, capsys: pytest.CaptureFixture[str]):
    assert benchmark.main(["--defenses", "apd", "--arch", "small-resnet", "--size", "8"]) == 2
    assert "unknown defense 'apd': did you mean 'adp'" in capsys.readouterr().err
