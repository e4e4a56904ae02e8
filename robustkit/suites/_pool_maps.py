"""Inner products of the saliency maps of all members of a pool: what their attribution variance is made of."""

from __future__ import annotations

import math
import time
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch import nn

from robustkit.base.errors import RunError
from robustkit.corruptions import _run
from robustkit.corruptions._plan import cell_of
from robustkit.corruptions._published import Published, Taken
from robustkit.data import Split
from robustkit.evaluation import pieces
from robustkit.evaluation.executors import Executor, Piece
from robustkit.evaluation.executors._worker import Worker
from robustkit.functional.attribution import saliency
from robustkit.functional.batching import of_the_device
from robustkit.functional.precision import exactly
from robustkit.functional.sending import sent
from robustkit.records.cells import Cell, Facts, Spec, digest
from robustkit.study.plan import Study
from robustkit.suites import Job

ELEMENTS = 2**24  # of the maps in memory at a time


def cell(study: Study, asked: Mapping[str, Any], corruption: Spec | None) -> Cell:
    """Return the cell of a validation set, one for the whole pool."""
    images = min(asked["images"], study.dataset.n)
    params = {"images": images, "corruption": corruption.to_json() if corruption else None}
    pool = digest([[member["weights_sha256"], member["arch"]] for member in asked["members"]])
    return Cell(
        "probe", pool, study.dataset.sha256, Spec("probe", "pool-saliency", params), seed=study.seed,
        version=study.version,
    )  # fmt: skip


def run(job: Job, corruptions: Sequence[Spec | None], published: Published | None) -> None:
    """Compare the maps of the members on each validation set, as far as the store lacks it."""
    executor = pieces.executor_of(job.run_options)
    cells = [(cell(job.study, job.request, corruption), corruption) for corruption in corruptions]
    todo = [one for one in cells if job.store.load_facts(one[0]) is None]
    split = job.data.split.take(min(job.request["images"], len(job.data.split)))
    with (
        job.reporter.pieces("pool: saliency maps", len(todo)) as advance,
        executor.session(len(todo), job.reporter) as session,
    ):
        for question, corruption in todo:
            session.submit(_piece(job, executor, split, question, corruption, published))
        for done in pieces.given(session):
            job.store.save_facts(done.value)
            advance(pieces.told(done, done.value.seconds))


def _piece(
    job: Job, executor: Executor, split: Split, question: Cell, corruption: Spec | None, published: Published | None
) -> Piece:
    """Return the piece of one validation set. The few images that maps are compared on are corrupted here."""
    pieces.share_ensembles(executor, job.ensembles, members := [m["ensemble"] for m in job.request["members"]])
    images, source = pieces.share_split(executor, split), ""
    if corruption is not None:
        made = cell_of(job.study, job.study.ensembles[0], corruption)
        executor.share(
            source := f"images {images} of {corruption}",
            Taken("pool", _run.whole(made, split, job.run_options.device, published)),
        )  # fmt: skip
    arguments = {"question": question, "asked": job.request["members"], "split": images, "source": source}
    needs = (*map(pieces.ensemble_name, members), images, *([source] if source else ()))
    name = "clean" if corruption is None else corruption.name
    return Piece(products, arguments, needs, label=f"pool: saliency maps, {name}", steps=len(split))


def products(worker: Worker, question: Cell, asked: Sequence[Mapping[str, Any]], split: str, source: str) -> Facts:
    """Return the products of the absolute saliency maps of every two members on each image, (N, M, M) float64.

    A piece of work: ``source`` is the shared name of the corrupted images of the split, empty where they are clean.
    """
    started = time.perf_counter()
    owners = {m["ensemble"]: worker.get(pieces.ensemble_name(m["ensemble"])) for m in asked}
    members: Sequence[nn.Module] = [owners[m["ensemble"]].members[m["member"]] for m in asked]
    images: Split = worker.get(split)
    at_once = max(1, ELEMENTS // (len(members) * math.prod(images.shape)))
    found = []
    for rows in torch.split(torch.arange(len(images)), at_once):
        _, x, y = images.batch(rows)
        if source:
            x = worker.get(source).images(rows)
        x, y = sent(x, worker.device), sent(y, worker.device)
        try:
            with exactly(worker.device):
                maps = saliency(members, x, y, create_graph=False).abs().flatten(2).cpu().numpy()
        except RuntimeError as error:  # a model of the user's own may have no gradient
            if of_the_device(error):
                raise
            raise RunError(
                f"a member of the pool gave no saliency maps ({error}); leave them out with --pool-attribution 0."
            ) from error
        found.append(np.einsum("mnp,knp->nmk", maps, maps, dtype=np.float64, optimize=True))
        worker.advance(len(rows))
    return Facts(question, {"products": np.concatenate(found)}, time.perf_counter() - started)
