"""Pieces of work of the suites that prove something: certified, smoothing."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import torch

from robustkit.base.errors import UserError
from robustkit.certify import fusing, reading
from robustkit.certify.region import Region
from robustkit.certify.smoothing import smooth
from robustkit.data import Split
from robustkit.ensembles.ensemble import Ensemble
from robustkit.evaluation import pieces
from robustkit.evaluation.cell import RunOptions
from robustkit.evaluation.executors import Piece
from robustkit.evaluation.executors._worker import Worker
from robustkit.functional.batching import in_parts
from robustkit.functional.precision import exactly
from robustkit.records.cells import Cell, Facts
from robustkit.suites import Job

LOOKED_AT = 4  # images on which graph and network must agree


def certifiable(ensembles: Mapping[str, Ensemble], split: Split) -> None:
    """Raise a :class:`UserError` that names the first ensemble with an operation or a rule that has no bound."""
    for id, ensemble in ensembles.items():
        device = next((p.device for p in ensemble.parameters()), torch.device("cpu"))
        x = split.batch(range(min(len(split), LOOKED_AT)))[1].to(device)
        try:
            fusing.check_rule(ensemble.fusion, len(ensemble))
            with exactly(device):  # TF32 alone would differ from the graph
                reading.read(ensemble.members, x)
        except UserError as error:
            raise UserError(f"'{id}': {error} Leave the suite certified out, or evaluate another model.") from None


def run_all(job: Job, title: str, cells: Sequence[Cell], function: Any) -> None:
    """Run the cells that the store lacks, and store what each notes."""
    executor = pieces.executor_of(job.run_options)
    ids = {record.key: record.id for record in job.study.ensembles}
    todo = [cell for cell in cells if job.store.load_facts(cell) is None]
    if not todo:
        return
    split = pieces.share_split(executor, job.data.split)
    pieces.share_ensembles(executor, job.ensembles, {cell.ensemble for cell in todo})
    with job.reporter.pieces(title, len(todo)) as advance, executor.session(len(todo), job.reporter) as session:
        for cell in todo:
            arguments = {"cell": cell, "split": split, "run_options": pieces.travelling(job.run_options)}
            at = "" if cell.eps is None else f" at eps {cell.eps:.4g}"
            label = f"{title}, {ids[cell.ensemble]}{at}: from sample {cell.params['first']}"
            session.submit(Piece(
                function, arguments, (pieces.ensemble_name(cell.ensemble), split), cell.params["count"], label,
                cell.params["count"],
            ))  # fmt: skip
        for done in pieces.given(session):
            job.store.save_facts(done.value)
            advance(pieces.told(done, done.value.seconds))


def certified(worker: Worker, cell: Cell, split: str, run_options: RunOptions) -> Facts:
    """Return floors of a cell's samples; a piece of work."""
    started = time.perf_counter()
    images: Split = worker.get(split)
    ensemble: Ensemble = worker.get(pieces.ensemble_name(cell.ensemble))
    rows = range(cell.params["first"], cell.params["first"] + cell.params["count"])
    _, x, y = (part.to(worker.device) for part in images.batch(rows))
    few = images.batch(range(min(len(images), LOOKED_AT)))[1].to(worker.device)
    with exactly(worker.device):
        graph = reading.read(ensemble.members, few)
        slack = fusing.slack_of(graph, ensemble.members, few)
        with torch.no_grad():
            right = ensemble.fuse(ensemble.member_logits(x)).argmax(-1) == y
        right |= bool(ensemble.chances)  # of members that are drawn each may be right by itself
    floor, alone = torch.zeros(len(x), dtype=torch.float64), torch.zeros(len(ensemble), len(x), dtype=torch.bool)
    kept = right.nonzero()[:, 0]
    by_interval = False
    if len(kept):
        effort = fusing.Effort(**{key: cell.params[key] for key in ("steps", "cases", "case_steps")})

        def proven(part: slice) -> fusing.Certificate:
            region = Region(x[kept[part]].double(), float(cell.eps or 0.0), cell.norm)
            return fusing.certify(graph, ensemble.fusion, ensemble.chances, region, y[kept[part]], effort, slack)

        found, _ = in_parts(proven, len(kept), len(kept))
        floor[kept.cpu()] = torch.cat([one.floor.cpu() for one in found])
        alone[:, kept.cpu()] = torch.cat([one.alone.cpu() for one in found], 1)
        by_interval = any(one.by_interval for one in found)
    worker.advance(len(x))
    arrays = {
        "floor": floor.numpy(), "alone": alone.numpy(), "right": right.cpu().numpy(),
        "slack": torch.tensor(slack).numpy(), "by_interval": torch.tensor(by_interval).numpy(),
    }  # fmt: skip
    return Facts(cell, arrays, time.perf_counter() - started)


def smoothed(worker: Worker, cell: Cell, split: str, run_options: RunOptions) -> Facts:
    """Return smoothed answers and radii of a cell's samples; a piece of work."""
    started = time.perf_counter()
    images: Split = worker.get(split)
    ensemble: Ensemble = worker.get(pieces.ensemble_name(cell.ensemble))
    here = replace(pieces.at(worker, run_options, images.shape), workers=1)
    rows = range(cell.params["first"], cell.params["first"] + cell.params["count"])
    ids, x, y = (part.to(worker.device) for part in images.batch(rows))
    with exactly(worker.device):
        found = smooth(
            lambda z: ensemble.fuse(ensemble.member_logits(z)), x, ids, sigma=cell.params["sigma"],
            draws=cell.params["draws"], seed=cell.seed, failure=cell.params["failure"],
            batch_size=here.batch(images.shape),
        )  # fmt: skip
    worker.advance(len(x))
    arrays = {"answer": found.answer, "radius": found.radius, "y": y.cpu().numpy()}
    return Facts(cell, arrays, time.perf_counter() - started)
