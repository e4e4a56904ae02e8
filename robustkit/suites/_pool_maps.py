"""Inner products of the saliency maps of all members of a pool: what their attribution variance is made of."""

from __future__ import annotations

import math
import time
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch import nn

from robustkit.corruptions import _run
from robustkit.corruptions._plan import cell_of
from robustkit.corruptions._published import Published
from robustkit.data import Split
from robustkit.ensembles.ensemble import Ensemble
from robustkit.evaluation.cell import RunOptions
from robustkit.evaluation.scoring import sent
from robustkit.functional.attribution import saliency
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


def facts(job: Job, corruption: Spec | None, published: Published | None) -> Facts:
    """Return what the cell of one validation set notes of a job's pool."""
    made = cell_of(job.study, job.study.ensembles[0], corruption) if corruption else None
    return products(
        cell(job.study, job.request, corruption), job.ensembles, job.request, job.data.split, job.run_options, made,
        published,
    )  # fmt: skip


def products(
    question: Cell, ensembles: Mapping[str, Ensemble], asked: Mapping[str, Any], split: Split, run_options: RunOptions,
    made: Cell | None, published: Published | None,
) -> Facts:  # fmt: skip
    """Return the products of the absolute saliency maps of every two members on each image, (N, M, M) float64.

    Parameters
    ----------
    made : Cell or None
        Of the corruption that the images are under, whichever ensemble it is of; None: they are the clean ones.
    """
    started = time.perf_counter()
    members: Sequence[nn.Module] = [ensembles[m["ensemble"]].members[m["member"]] for m in asked["members"]]
    images = min(asked["images"], len(split))
    at_once = max(1, ELEMENTS // (len(members) * math.prod(split.shape)))
    device, found = run_options.device, []
    for rows in torch.split(torch.arange(images), at_once):
        _, x, y = split.batch(rows)
        if made is not None:
            x = _run.corrupted(made, split, rows, device, published)
        maps = saliency(members, sent(x, device), sent(y, device), create_graph=False).abs().flatten(2).cpu().numpy()
        found.append(np.einsum("mnp,knp->nmk", maps, maps, dtype=np.float64, optimize=True))
    return Facts(question, {"products": np.concatenate(found)}, time.perf_counter() - started)
