"""The shares that the benchmark of stored images prints, against the bytes themselves."""

from __future__ import annotations

import json
import runpy
from pathlib import Path

import numpy as np
import pytest

from robustkit.records.packing import pack

BENCHMARK = runpy.run_path(str(Path(__file__).parents[2] / "benchmarks" / "stored_images.py"))


def test_shares_are_of_all_cells_of_an_attack(tmp_path: Path):
    rng = np.random.default_rng(0)
    for at, name in enumerate(("pgd", "pgd", "mim")):
        clean = rng.random((4, 1, 8, 8), np.float32)
        np.savez(tmp_path / f"{at}.npz", **pack(clean, clean, 0.1))
        cell = {"kind": "attack", "attack": {"name": name}}
        (tmp_path / f"{at}.json").write_text(json.dumps({"cell": cell}), "utf-8")
    np.savez(tmp_path / "clean.npz", labels=np.zeros(3))
    (tmp_path / "clean.json").write_text(json.dumps({"cell": {"kind": "clean"}}), "utf-8")
    found = BENCHMARK["stored"](tmp_path)
    assert {key: whole for key, (_, whole) in found.items()} == {("attack", "pgd"): 2048, ("attack", "mim"): 1024}
    assert all(0 < packed < whole / 10 for packed, whole in found.values())  # nothing was moved


def test_images_from_a_random_start_take_more():
    shares = {name: share for name, share, _, _ in BENCHMARK["made_up"](20)}
    assert shares["from the clean image"] < 0.25 < shares["from a random start"] < 1
    assert shares == pytest.approx({name: share for name, share, _, _ in BENCHMARK["made_up"](20)})
