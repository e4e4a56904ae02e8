"""The ablation of SDDE changes one thing at a time, and its scores are those of the logits."""

from __future__ import annotations

import argparse
import importlib
import json
from pathlib import Path

import pytest
import torch
from benchmark_script import script

from robustkit import data, models

SIZES = {"images": 64, "epochs": 2, "batch": 128, "members": 2, "test": 40}


@pytest.fixture(scope="module")
def benchmark():
    return script("sdde_ablation")


def test_a_row_differs_from_the_papers_training_in_what_it_names(benchmark):
    args = argparse.Namespace(**SIZES)
    own = benchmark.spec(*benchmark.ROWS["sdde"], 3, args).to_json()
    assert (own["lr"], own["optimiser"], own["weight_decay"], own["epochs"], own["seed"]) == (0.1, "sgd", 5e-4, 2, 3)
    assert own["defense"]["params"] == {"lam": 0.1, "maps": "gradcam", "layer": ""}
    for name, changed in {
        "conv2": {"defense": {**own["defense"], "params": {"lam": 0.1, "maps": "gradcam", "layer": "conv2"}}},
        "raw": {},  # what it changes is no part of a training's recipe
        "mirrored": {"flip": True, "shift": 4 / 28},
        "plain": {"defense": {"kind": "defense", "name": "baseline", "params": {}}},
    }.items():
        assert benchmark.spec(*benchmark.ROWS[name], 3, args).to_json() == {**own, **changed}


def test_raw_maps_are_those_of_gradcam_and_only_while_it_lasts(benchmark):
    module = importlib.import_module("robustkit.defenses.sdde")
    maps, before = torch.rand(2, 3, 5, 5), module.standardised
    with benchmark._maps(raw=True):
        assert module.standardised(maps) is maps
    with benchmark._maps(raw=False):
        assert module.standardised(maps).shape == (2, 3, 9)
    assert module.standardised is before


def test_scores_of_sure_and_of_unsure_logits(benchmark):
    generator = torch.Generator().manual_seed(0)
    sure = 20 * torch.eye(10).repeat(2, 3, 1)  # (2, 30, 10)
    unsure = torch.rand(2, 20, 10, generator=generator)
    found, turned = dict(benchmark.aurocs(sure, unsure)), dict(benchmark.aurocs(unsure, sure))
    for name in ("msp of mean-prob", "msp of mean-logit", "mal", "min-max-logit", "msp of one member"):
        assert (found[name], turned[name]) == (1.0, 0.0)
    apart = torch.stack([10 * torch.eye(10), 10 * torch.eye(10).roll(1, 1)])  # each sure, of another class
    assert dict(benchmark.aurocs(sure, apart))["msp of one member"] > 0.9
    assert dict(benchmark.aurocs(sure, apart))["mutual-information"] == 1.0


def test_centred_is_the_same_network_behind_two_x_minus_one(benchmark):
    arch = {name: f"{benchmark.LENETS}:{name}" for name in ("openood", "centred")}
    plain, centred = (models.build(arch[name], 1, 10).eval() for name in ("openood", "centred"))
    centred.load_state_dict(plain.state_dict())
    x = torch.rand(3, 1, 28, 28, generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        assert torch.equal(centred(x), plain(2 * x - 1))


def test_rows_are_kept_and_shown(benchmark, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys):
    digits = data.load("digits")
    monkeypatch.setattr(benchmark, "_images", lambda args: (digits, digits.split("validation").take(args.test)))
    out = tmp_path / "rows.jsonl"
    words = ["--data-dir", str(tmp_path), "--out", str(out), "--only", "sdde; plain", "--epochs", "1", "--members", "2"]
    assert benchmark.main(words) == 0
    rows = [json.loads(line) for line in out.read_text().splitlines()]
    assert [(row["row"], row["epochs"]) for row in rows] == [("sdde", 1), ("plain", 1)]
    assert 0 <= rows[0]["history"][0]["cosine"] <= 1
    shown = capsys.readouterr().out
    assert "| sdde | 10,000 x 1 | 1 |" in shown
    assert benchmark.main(words) == 0
    assert len(out.read_text().splitlines()) == 2  # nothing is trained twice
    assert benchmark.main([*words[:-6], "--only", "sddd"]) == 2
    assert "unknown row 'sddd'" in capsys.readouterr().err
