"""Corruption cells: corrupt the images of a split, or read them, and score them with the untouched model."""

from __future__ import annotations

import math
import time
from collections.abc import Mapping

import numpy as np
import torch
from torch import Tensor

from robustkit.base.errors import UserError
from robustkit.base.lines import spoken
from robustkit.base.parallel import run_all
from robustkit.base.progress import Reporter
from robustkit.corruptions import get
from robustkit.corruptions._plan import cells
from robustkit.corruptions._published import Published
from robustkit.data import Split
from robustkit.ensembles.ensemble import Ensemble
from robustkit.evaluation.cell import RunOptions, environment
from robustkit.evaluation.scoring import SCORE_BATCH, score, sent
from robustkit.functional.precision import has_float64
from robustkit.functional.sampling import SampleGenerator
from robustkit.records.cells import Cell, Run, Spec
from robustkit.records.samples import ERROR, HERE, OK, Samples
from robustkit.records.store import Store
from robustkit.study.plan import Study

ELEMENTS = 2**20  # of the images that are corrupted together
SHOWN = 1  # images that a cell keeps, for the contact sheet


def run_corruptions(
    study: Study, ensembles: Mapping[str, Ensemble], split: Split, store: Store, run_options: RunOptions,
    reporter: Reporter, published: Published | None = None,
) -> list[str]:  # fmt: skip
    """Run every corruption cell of a study that the store has not; return the distinct warnings of all of them.

    Each corruption is made once for all ensembles that lack it.
    """
    groups: dict[tuple[str, str], list[Cell]] = {}
    for cell in cells(study):
        if store.load(cell) is None and cell.attack is not None:
            groups.setdefault((cell.name, str(sorted(cell.attack.params.items()))), []).append(cell)
    total = sum(map(len, groups.values()))
    warnings: list[str] = []
    if not total:
        return warnings
    ids = {record.key: record.id for record in study.ensembles}
    with reporter.pieces("corruptions", total) as done:

        def work(group: list[Cell]) -> None:
            runs = run_cells(group, ensembles, split, run_options, published)
            for run in runs:
                store.save(run)
                warnings.extend(f"{ids[run.cell.ensemble]}: {warning}" for warning in run.warnings)
                level = f"severity {run.cell.params.get('severity')}"
                done(f"{ids[run.cell.ensemble]}: {run.cell.name}, {level}, {spoken(run.seconds)}")

        run_all(work, list(groups.values()), run_options.workers)
    return list(dict.fromkeys(warnings))


def run_cells(
    group: list[Cell],
    ensembles: Mapping[str, Ensemble],
    split: Split,
    run_options: RunOptions,
    published: Published | None,
) -> list[Run]:
    """Run cells that differ in the ensemble only."""
    started = time.perf_counter()
    parts: list[list[Samples]] = [[] for _ in group]
    for rows in torch.split(torch.arange(len(split)), batch_of(split.shape)):
        ids, x, y = split.batch(rows)
        began = time.perf_counter()
        made = corrupted(group[0], split, rows, run_options.device, published)
        seconds = (time.perf_counter() - began) / len(rows)
        for cell, part in zip(group, parts, strict=True):
            keep = SHOWN if run_options.keep_examples and not part else 0
            part.append(_samples(ensembles[cell.ensemble], ids, x, y, made, seconds, keep, run_options.device))
    joined = [Samples.joined(part) for part in parts]
    took = (time.perf_counter() - started) / len(group)
    return [
        Run(cell, samples, took, _warnings(samples), environment(run_options.device))
        for cell, samples in zip(group, joined, strict=True)
    ]


def batch_of(shape: tuple[int, ...]) -> int:
    """Return how many images of a shape are corrupted together: whole score batches, where they are small."""
    most = max(1, ELEMENTS // math.prod(shape))
    return most // SCORE_BATCH * SCORE_BATCH if most > SCORE_BATCH else most


def corrupted(cell: Cell, split: Split, rows: Tensor, device: torch.device, published: Published | None) -> Tensor:
    """Return the corrupted images of some rows of a split, on the CPU, float32 (B, C, H, W)."""
    ids, x, y = split.batch(rows)
    if cell.attack is None:
        raise ValueError("a corruption cell names its corruption")
    if "published" in cell.attack.params:
        if published is None:
            raise ValueError("a cell of a published set needs the set")
        severity = int(cell.attack.params["severity"])
        return _same_shape(published, published.images(cell.name, severity, rows, ids, y), x)
    return make(cell.attack, cell.seed, ids, x, device)


def make(spec: Spec, seed: int, ids: Tensor, x: Tensor, device: torch.device) -> Tensor:
    """Return images under a corruption at the severity of its spec, on the CPU, float32 (B, C, H, W)."""
    params = dict(spec.params)
    severity = params.pop("severity")
    generator = SampleGenerator(seed, ids, f"{spec.name}/{severity}")
    on = device if has_float64(device) else torch.device("cpu")  # several compute in float64
    made: Tensor = get(spec.name)(sent(x, on), severity, **params, generator=generator)
    return made.cpu().float()


def _same_shape(published: Published, made: Tensor, x: Tensor) -> Tensor:
    if made.shape != x.shape:
        size, wanted = ("x".join(map(str, images.shape[1:])) for images in (made, x))
        raise UserError(f"images in '{published.folder}' are {size}, yours {wanted}; give a set of that size.")
    return made


def _samples(
    ensemble: Ensemble, ids: Tensor, x: Tensor, y: Tensor, made: Tensor, seconds: float, keep: int, device: torch.device
) -> Samples:
    """Score one batch."""
    scores = score(ensemble, x, made, device)
    n = len(ids)
    zeros = np.zeros(n, np.int64)
    l0, l1, l2, linf = scores.sizes.numpy()
    return Samples(
        ids=ids.numpy(), y=y.numpy(), target=np.full(n, -1), member_logits=scores.member_logits.numpy(),
        fused=scores.fused.numpy(), l0=l0, l1=l1, l2=l2, linf=linf, forwards=zeros, backwards=zeros.copy(),
        seconds=np.full(n, seconds, np.float32), status=torch.where(scores.finite, OK, ERROR).numpy(),
        carried=np.full(n, HERE), history=np.zeros((0, 0), np.float32), examples=made[:keep].clone().numpy(),
        randomised=np.full(n, bool(ensemble.chances)),
    )  # fmt: skip


def _warnings(samples: Samples) -> tuple[str, ...]:
    failed = bool(samples.failed.any())
    return ("the model's output is not finite on some corrupted images",) if failed else ()
