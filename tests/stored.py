"""Stored evaluations made by hand: which samples each ensemble gets right is said, and nothing is run."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from robustkit.attacks import spec
from robustkit.base.files import write_json
from robustkit.pipeline.results import build
from robustkit.records.cells import Cell, DatasetRecord, EnsembleRecord, Run
from robustkit.records.samples import Samples
from robustkit.records.store import STUDY, Store
from robustkit.study.plan import Study

Right = Mapping[float | None, Sequence[int]]  # by eps, None for clean: 1 where a sample is classified right


def bits(text: str) -> list[int]:
    """Read ``1101`` as right, right, wrong, right."""
    return [int(one) for one in text]


def some(n: int, right: int) -> list[int]:
    """Return n outcomes, the first of them right."""
    return [1] * right + [0] * (n - right)


def samples(right: Sequence[int], classes: int = 10) -> Samples:
    """Return samples of which some are classified right."""
    n = len(right)
    y = np.arange(n) % classes
    said = np.where(np.asarray(right, bool), y, (y + 1) % classes)
    fused = np.full((n, classes), -5.0, np.float32)
    fused[np.arange(n), said] = -0.01
    sizes, counts = np.zeros(n, np.float32), np.ones(n, np.int64)
    return Samples(
        ids=np.arange(n), y=y, target=np.full(n, -1), member_logits=np.stack([fused, fused]), fused=fused, l0=sizes,
        l1=sizes, l2=sizes, linf=sizes, forwards=counts, backwards=counts, seconds=sizes,
        status=np.zeros(n, np.int64), carried=np.zeros(n, np.int64), history=np.zeros((0, 1), np.float32),
        examples=np.zeros((0, 1, 8, 8), np.float32),
    )  # fmt: skip


def evaluation(
    folder: Path, right: Mapping[str, Right], *, attacks: Sequence[str] = ("pgd",), verdict: str = "trusted",
    sha: str = "d" * 64, classes: int = 10, environment: Mapping[str, Any] | None = None,
    groups: Mapping[str, tuple[str, int]] | None = None, norms: Mapping[str, Mapping[str, Right]] | None = None,
    **study: Any,
) -> Path:  # fmt: skip
    """Write an evaluation as the command would, every number with the verdict; return its folder.

    ``right`` is by ensemble; several attacks all break the same. ``groups`` are those of a study over seeds: what an
    ensemble is called beside those of the other seeds, and its seed. ``norms`` has what is right in further norms.
    """
    n = len(next(iter(right.values()))[None])
    eps = tuple(sorted({e for own in right.values() for e in own if e is not None}))
    records = tuple(
        EnsembleRecord(
            id,
            hashlib.sha256(id.encode()).hexdigest(),
            group or id,
            {},
            ("net",),
            2,
            "mean-prob",
            "ab" * 32,
            group=group,
            seed=seed,
        )
        for id, (group, seed) in ((id, (groups or {}).get(id, ("", None))) for id in right)
    )
    more = {norm: tuple(sorted(e for e in next(iter(own.values())) if e)) for norm, own in (norms or {}).items()}
    names = tuple(str(label) for label in range(classes))
    made = Study(
        records, DatasetRecord("digits", "test", n, names, sha, (1, 8, 8)), tuple(spec(name) for name in attacks), eps,
        "linf", eps[-1] if eps else 0.0,
        **{"suites": ("attacks",), "reference": False, "trust": "off", "version": "0.1.0", "more_norms": more, **study},
    )  # fmt: skip
    store = Store(folder / "runs")
    for record in records:
        cells: list[Cell] = [made.clean(record), *(made.white_box(record) if eps else ())]
        for cell in cells:
            own = (norms or {}).get(cell.norm, right)[record.id]
            store.save(Run(cell, samples(own[cell.eps], classes), environment=environment or {}))
    write_json(folder / "runs" / STUDY, made.to_json())
    results: Any = build(made, store)
    for number in (*results["evaluations"], *results["worst_case"], *results.get("union", ())):
        number["verdict"] = verdict
    write_json(folder / "results.json", results)
    return folder


def changed(folder: Path, **values: Any) -> Path:
    """Change what a ``results.json`` says at its top; return the folder."""
    path = folder / "results.json"
    write_json(path, {**json.loads(path.read_text("utf-8")), **values})
    return folder
