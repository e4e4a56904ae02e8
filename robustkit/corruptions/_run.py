"""Corruption cells: corrupt the images of a split, or read them, and score them with the untouched model."""

from __future__ import annotations

import math
import time
from collections.abc import Mapping

import numpy as np
import torch
from torch import Tensor

from robustkit.base.errors import UserError
from robustkit.base.progress import Reporter
from robustkit.corruptions import get
from robustkit.corruptions._plan import cells
from robustkit.corruptions._published import Published, Taken
from robustkit.data import Split
from robustkit.ensembles.ensemble import Ensemble
from robustkit.evaluation import pieces
from robustkit.evaluation.cell import RunOptions, environment
from robustkit.evaluation.executors import Piece
from robustkit.evaluation.executors._worker import Worker
from robustkit.evaluation.scoring import SCORE_BATCH, score
from robustkit.functional.batching import in_parts
from robustkit.functional.precision import exactly, has_float64
from robustkit.functional.sampling import SampleGenerator
from robustkit.functional.sending import sent
from robustkit.records.cells import Cell, Run, Spec
from robustkit.records.samples import ERROR, HERE, OK, Samples
from robustkit.records.store import Store
from robustkit.study.plan import Study

ELEMENTS = 2**20  # of the images that are corrupted together on a CPU, which stay in its cache ...
ELEMENTS_GPU = 2**24  # ... and on a GPU, which would wait for launches: 111 images of 224 pixels, 5,376 of 32
SHOWN = 1  # images that a cell keeps, for the contact sheet
PUBLISHED = "published corruptions"  # the name under which the set is shared in this process
AHEAD, FEW_AHEAD = 1024, 16  # corruptions that may wait for a worker; fewer where the images of each are sent along

Source = Published | Taken | None


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
    executor = pieces.executor_of(run_options)
    images, todo = pieces.share_split(executor, split), iter(groups.values())
    if not executor.remote and published is not None:
        executor.share(PUBLISHED, published)

    def submit_next() -> None:
        """Submit one more corruption; what a worker elsewhere cannot read or make is read or made here."""
        for group in todo:
            source = PUBLISHED if published is not None else ""
            if executor.remote and {"published", "textures"} & set(group[0].params):
                source = f"images {images} of {group[0].attack}"
                executor.share(source, taken(group[0], split, run_options.device, published))
            pieces.share_ensembles(executor, ensembles, [cell.ensemble for cell in group])
            session.submit(_piece(group, images, source, run_options, len(split)))
            return

    with reporter.pieces("corruptions", total) as done, executor.session(len(groups), reporter) as session:
        for _ in range(FEW_AHEAD if executor.remote and published is not None else AHEAD):
            submit_next()
        for one in pieces.given(session):
            for run in (pieces.placed(run, one) for run in one.value):
                store.save(run)
                warnings.extend(f"{ids[run.cell.ensemble]}: {warning}" for warning in run.warnings)
                level = f"severity {run.cell.params.get('severity')}"
                label = f"{ids[run.cell.ensemble]}: {run.cell.name}, {level}"
                done(pieces.told(one, run.seconds, label))
            if one.piece.tag not in ("", PUBLISHED):
                executor.drop(one.piece.tag)
            submit_next()
    return list(dict.fromkeys(warnings))


def _piece(group: list[Cell], split: str, source: str, run_options: RunOptions, n: int) -> Piece:
    """Return the piece that runs one corruption; ``split`` and ``source`` are names of what is shared."""
    arguments = {"group": group, "split": split, "source": source, "run_options": pieces.travelling(run_options)}
    needs = (*(pieces.ensemble_name(cell.ensemble) for cell in group), split, *([source] if source else ()))
    label = f"{group[0].name}, severity {group[0].params.get('severity')}"
    return Piece(run_cells, arguments, needs, label=label, steps=n, tag=source)


def run_cells(worker: Worker, group: list[Cell], split: str, source: str, run_options: RunOptions) -> list[Run]:
    """Run cells that differ in the ensemble only: each image is made once for all; a piece of work."""
    started = time.perf_counter()
    images: Split = worker.get(split)
    ensembles = {cell.ensemble: worker.get(pieces.ensemble_name(cell.ensemble)) for cell in group}
    published: Source = worker.get(source) if source else None
    parts: list[list[Samples]] = [[] for _ in group]
    for rows in torch.split(torch.arange(len(images)), batch_of(images.shape, worker.device)):
        ids, x, y = images.batch(rows)
        began = time.perf_counter()
        made = corrupted(group[0], images, rows, worker.device, published)
        seconds = (time.perf_counter() - began) / len(rows)
        for cell, part in zip(group, parts, strict=True):
            keep = SHOWN if run_options.keep_examples and not part else 0
            part.append(_samples(ensembles[cell.ensemble], ids, x, y, made, seconds, keep, worker.device))
        worker.advance(len(rows))
    joined = [Samples.joined(part) for part in parts]
    took = (time.perf_counter() - started) / len(group)
    return [
        Run(cell, samples, took, _warnings(samples), environment(worker.device))
        for cell, samples in zip(group, joined, strict=True)
    ]


def taken(cell: Cell, split: Split, device: torch.device, published: Published | None) -> Taken:
    """Return the images of a corruption that only this machine can read or make, for another to score them."""
    if published is not None:
        _, _, y = split.batch(range(len(split)))
        every, severity = torch.arange(len(split)), int(cell.params["severity"])
        return Taken(str(published.folder), published.pixels(cell.name, severity, every, split.ids, y))
    return Taken("frost", whole(cell, split, device, None))


def whole(cell: Cell, split: Split, device: torch.device, source: Source) -> Tensor:
    """Return the corrupted images of all of a split, made in batches, float32 (N, C, H, W)."""
    parts = torch.split(torch.arange(len(split)), batch_of(split.shape, device))
    return torch.cat([corrupted(cell, split, rows, device, source) for rows in parts])


def batch_of(shape: tuple[int, ...], device: torch.device) -> int:
    """Return how many images of a shape are corrupted together: whole score batches, where they are small."""
    most = max(1, (ELEMENTS if device.type == "cpu" else ELEMENTS_GPU) // math.prod(shape))
    return most // SCORE_BATCH * SCORE_BATCH if most > SCORE_BATCH else most


def corrupted(cell: Cell, split: Split, rows: Tensor, device: torch.device, source: Source) -> Tensor:
    """Return the corrupted images of some rows of a split, on the CPU, float32 (B, C, H, W)."""
    ids, x, y = split.batch(rows)
    if cell.attack is None:
        raise ValueError("a corruption cell names its corruption")
    if isinstance(source, Taken):
        return _same_shape(source, source.images(rows), x)
    if "published" in cell.attack.params:
        if source is None:
            raise ValueError("a cell of a published set needs the set")
        severity = int(cell.attack.params["severity"])
        return _same_shape(source, source.images(cell.name, severity, rows, ids, y), x)
    return make(cell.attack, cell.seed, ids, x, device)


def make(spec: Spec, seed: int, ids: Tensor, x: Tensor, device: torch.device) -> Tensor:
    """Return images under a corruption at the severity of its spec, on the CPU, float32 (B, C, H, W)."""
    params = dict(spec.params)
    severity = params.pop("severity")
    on = device if has_float64(device) else torch.device("cpu")  # several compute in float64

    def part(at: slice) -> Tensor:
        generator = SampleGenerator(seed, ids[at], f"{spec.name}/{severity}")
        made: Tensor = get(spec.name)(sent(x[at], on), severity, **params, generator=generator)
        return made.cpu().float()

    with exactly(on):
        parts, _ = in_parts(part, len(ids), len(ids))
    return parts[0] if len(parts) == 1 else torch.cat(parts)


def _same_shape(published: Published | Taken, made: Tensor, x: Tensor) -> Tensor:
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
