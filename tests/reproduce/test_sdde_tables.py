"""SDDE's tables of calibration and of out-of-distribution detection, cut down: which sets count, and whose numbers."""

from __future__ import annotations

import json
import struct
from pathlib import Path

import numpy as np
import PIL.Image
import pytest
from test_end_to_end import run

from robustkit.reproduce import sdde_table2, sdde_table3


def results(out: Path, part: str, suite: str) -> dict:
    found = json.loads((out / "evaluations" / part / "results.json").read_text())[suite]
    return {(r["ensemble"], r.get("output", "ensemble")): r for r in found}


@pytest.fixture
def few(monkeypatch: pytest.MonkeyPatch) -> None:
    """Two of the five ensembles, for time."""
    for module in (sdde_table2, sdde_table3):
        monkeypatch.setattr(module, "sdde_columns", lambda dataset, real=module.sdde_columns: real(dataset)[::4])


def write_idx(folder: Path, x: np.ndarray) -> None:
    folder.mkdir(parents=True)
    for name, array in (("images-idx3", x), ("labels-idx1", np.zeros(len(x), np.uint8))):
        head = struct.pack(f">4B{array.ndim}I", 0, 0, 8, array.ndim, *array.shape)
        (folder / f"t10k-{name}-ubyte").write_bytes(head + array.tobytes())


def test_table_3_takes_the_sets_that_are_there(few: None, tmp_path: Path):
    drawn = np.random.default_rng(0).integers(0, 256, (20, 28, 28), np.uint8)
    write_idx(tmp_path / "data" / "notMNIST" / "raw", drawn)
    (tmp_path / "data" / "texture").mkdir()
    for at in range(20):
        PIL.Image.fromarray(drawn[at]).save(tmp_path / "data" / "texture" / f"{at}.png")
    out = tmp_path / "out"
    written = run("sdde-table3", out, "mnist", data_dir=str(tmp_path / "data"))
    rows = {(r["row"], r["column"]): r for r in written["comparisons"]}
    assert list(dict.fromkeys(row for row, _ in rows)) == [
        "NotMNIST", "Texture", "mean near of these", "mean far of these",
    ]  # fmt: skip
    by = results(out, "ood", "ood")
    for column, ensemble, score, paper in (("DE", "de", "msp", 89.56), ("SDDE", "sdde", "mal", 94.27)):
        one = by[ensemble, "ensemble"]["sets"][0]
        own = next(s for s in one["scores"] if s["score"] == score)
        assert (one["name"], one["distance"], one["n"]) == ("notmnist", "near", 12)
        row = rows["NotMNIST", column]
        assert (row["ours"], row["paper"]) == (pytest.approx(100 * own["auroc"]), paper)
        assert row["ci95"] == pytest.approx([100 * v for v in own["ci95"]])
        assert rows["mean near of these", column]["ours"] == pytest.approx(row["ours"])
        assert rows["mean near of these", column]["paper"] is None
    assert "left out: Fashion MNIST, CIFAR10, TIN, Places365." in written["note"]
    differ = {d["setting"]: d["ours"] for d in written["settings_that_differ"]}
    assert differ["out-of-distribution sets"] == ["NotMNIST", "Texture"]
    assert "bootstrap 95 % interval" in (out / "reproduction.md").read_text()


def test_table_3_without_any_set_takes_the_shipped_ones(few: None, tmp_path: Path):
    written = run("sdde-table3", tmp_path / "out", "mnist", data_dir=str(tmp_path))
    assert {r["row"] for r in written["comparisons"]} == {
        "swapped-quarters", "noise", "photo-tiles", "mean near of these", "mean far of these",
    }  # fmt: skip
    assert all(r["paper"] is None for r in written["comparisons"])
    assert "the sets that robustkit ships stand in" in written["note"]


def test_table_2_is_after_the_temperature_in_the_papers_units(few: None, tmp_path: Path):
    written = run("sdde-table2", tmp_path, "mnist", n=None)
    rows = {(r["row"], r["column"]): r for r in written["comparisons"]}
    r = results(tmp_path, "calibration", "calibration")["sdde", "ensemble"]
    assert r["after"] is not None
    assert rows["NLL x 10", "SDDE"]["ours"] == pytest.approx(10 * r["after"]["nll"])
    assert rows["ECE x 100", "SDDE"]["ours"] == pytest.approx(100 * r["after"]["ece"])
    assert rows["Brier x 100", "SDDE"]["ours"] == pytest.approx(100 * r["after"]["brier"])
    assert rows["accuracy %", "SDDE"]["ours"] == pytest.approx(100 * r["accuracy"])
    assert (rows["Brier x 100", "SDDE"]["paper"], rows["Brier x 100", "SDDE"]["paper_spread"]) == (1.92, 0.15)
    assert (r["fitted_on"], r["fitted_n"], r["n"]) == ("validation", 200, 500)
    empty = {"after": None, "before": r["before"], "accuracy": 0.5}
    assert sdde_table2.measures(empty)["NLL x 10"] == r["before"]["nll"]  # no temperature: the number without one
