"""The store: what was written comes back, and what is damaged, half-written or of another question does not."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from robustkit.base.errors import UserError
from robustkit.records.cells import Cell, Run, Spec, canonical
from robustkit.records.samples import ERROR, OK, OVER_BUDGET, Samples
from robustkit.records.store import STUDY, Store, open_runs

CELL = Cell("attack", "e", "d", Spec("attack", "pgd", {"steps": 10, "step_size": None}), 0.1, "linf", version="1")


def make_samples(n: int = 6) -> Samples:
    rng = np.random.default_rng(0)
    counts = {k: np.arange(n) for k in ("ids", "y", "target", "forwards", "backwards", "status", "carried")}
    sizes = {k: rng.random(n, np.float32) for k in ("l0", "l1", "l2", "linf", "seconds")}
    return Samples(
        **counts, **sizes, member_logits=rng.random((3, n, 4), np.float32), fused=rng.random((n, 4), np.float32),
        history=np.full((2, 3), np.nan, np.float32), examples=rng.random((n, 1, 2, 2), np.float32),
    )  # fmt: skip


RUN = Run(CELL, make_samples(), 1.5, ("careful",), {"torch": "x"})


def test_a_sample_that_failed_is_never_right():
    fused = np.eye(4, dtype=np.float32)[[0, 1, 2, 0]]
    made = replace(make_samples(4), y=np.arange(4), fused=fused, status=np.array([OK, ERROR, OVER_BUDGET, OK]))
    assert made.failed.tolist() == [False, True, False, False]
    assert made.right.tolist() == [True, False, True, False]
    assert made.whole().ids.tolist() == [0, 2, 3]


def test_round_trip(tmp_path: Path):
    store = Store(tmp_path)
    assert store.load(CELL) is None
    store.save(RUN)
    assert CELL in store
    loaded = store.load(CELL, examples=True)
    assert loaded.meta() == RUN.meta()
    for name, array in RUN.samples.arrays().items():
        np.testing.assert_array_equal(getattr(loaded.samples, name), array)
        assert getattr(loaded.samples, name).dtype == array.dtype
    assert store.load(CELL).samples.examples.size == 0
    assert [r.cell for r in store] == [CELL]
    assert not [p for p in tmp_path.iterdir() if p.name.startswith(".")]


@pytest.mark.parametrize(
    "change",
    [
        {"seed": 1},
        {"ensemble": "f"},
        {"data": "c"},
        {"target": "random"},
        {"eps": 0.2},
        {"norm": "l2"},
        {"source": "member-0"},
        {"version": "2"},
    ],
)
def test_another_question_has_another_key(tmp_path: Path, change: dict):
    store = Store(tmp_path)
    store.save(RUN)
    other = replace(CELL, **change)
    assert other.key != CELL.key
    assert store.load(other) is None


def test_equal_questions_have_one_key_whatever_the_order_of_parameters():
    swapped = replace(CELL, attack=Spec("attack", "pgd", {"step_size": None, "steps": 10}))
    assert swapped.key == CELL.key == Cell.from_json(json.loads(canonical(CELL.to_json()))).key


@pytest.mark.parametrize("suffix", ["json", "npz"])
@pytest.mark.parametrize(
    "damage", [lambda b: b[: len(b) // 2], lambda b: b"", lambda b: b[:-9] + bytes([b[-9] ^ 64]) + b[-8:]]
)
def test_damage_means_not_there(tmp_path: Path, suffix: str, damage):
    store = Store(tmp_path)
    store.save(RUN)
    path = tmp_path / f"{CELL.key}.{suffix}"
    path.write_bytes(damage(path.read_bytes()))
    assert store.load(CELL) is None
    store.save(RUN)
    assert store.load(CELL) is not None


def test_a_kill_between_the_two_writes_means_not_there(tmp_path: Path):
    store = Store(tmp_path)
    store.save(RUN)
    (tmp_path / f"{CELL.key}.json").unlink()
    assert store.load(CELL) is None
    assert list(store) == []


def test_nothing_is_unpickled(tmp_path: Path):
    store = Store(tmp_path)
    store.save(RUN)
    path = tmp_path / f"{CELL.key}.npz"
    np.savez(path, **{**RUN.samples.arrays(), "y": np.array([{"a": 1}], dtype=object)}, allow_pickle=True)
    meta_path = tmp_path / f"{CELL.key}.json"
    meta = json.loads(meta_path.read_text())
    import hashlib

    meta_path.write_text(json.dumps({**meta, "npz_sha256": hashlib.sha256(path.read_bytes()).hexdigest()}))
    assert store.load(CELL) is None


def test_opening_what_is_no_results_folder(tmp_path: Path):
    with pytest.raises(UserError, match="holds no runs; give the --out folder"):
        open_runs(tmp_path)
    (tmp_path / "runs").mkdir()
    (tmp_path / "runs" / STUDY).write_text("{}")
    assert open_runs(tmp_path).folder == open_runs(tmp_path / "runs").folder == tmp_path / "runs"
