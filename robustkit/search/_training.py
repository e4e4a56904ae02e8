"""Candidates trained from scratch by the ordinary recipe, each an ensemble of one member with its own checkpoint."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch

from robustkit import models
from robustkit.base.parallel import default_workers
from robustkit.data import Dataset
from robustkit.ensembles.checkpoint import read_meta, save_ensemble
from robustkit.ensembles.ensemble import Ensemble, Member
from robustkit.evaluation.cell import RunOptions
from robustkit.evaluation.executors import Executor
from robustkit.pipeline import models_under_test
from robustkit.pipeline.trainings import trained_jobs
from robustkit.records.cells import Spec
from robustkit.search._lab import Cost, Found, SearchLab
from robustkit.study.config import SearchConfig
from robustkit.training.untrained import accuracies

PLAIN = Spec("defense", "baseline", {})
MOST_CANDIDATES = 1000  # of one search, for their seeds to be their own


def train_all(
    candidates: Sequence[Found], lab: SearchLab, fields: Mapping[str, Any], config: SearchConfig,
    folder: Path, executor: Executor | None = None,
) -> list[tuple[Ensemble, Mapping[str, Any]]]:  # fmt: skip
    """Return each candidate as an ensemble of one member, and what its checkpoint says of it.

    Each is written to the folder of its name below ``folder``. Those that are not trained yet are trained side by side,
    by the executor, else in threads of this process.
    """
    data, workers = lab.data, config.workers or default_workers(lab.device)
    run_options = RunOptions(lab.device, workers=workers, speed=config.speed, executor=executor)
    specs = {
        one.name: models_under_test.train_spec(
            PLAIN, data, {**fields, "arch": one.arch, "arch_params": one.arch_params, "members": 1},
            speed=config.speed, seed=training_seed(config.seed, at),
        )
        for at, one in enumerate(candidates) if one.weights is None
    }  # fmt: skip
    trained = trained_jobs([(spec, None) for spec in specs.values()], data, run_options, lab.reporter)
    made = {name: ensemble for name, (_, ensemble) in zip(specs, trained, strict=True)}
    done = []
    for one in candidates:
        place = folder / one.name
        if one.weights is not None:
            done.append(_given(one, one.weights, place, data))
            continue
        spec = specs[one.name]
        meta = read_meta(models_under_test.folder_of(spec))
        models_under_test.save(made[one.name], place, spec, data, meta["metrics"], meta["history"])
        done.append((made[one.name], meta))
    if samples := sum(len(data.split("train")) * len(meta["history"]) for _, meta in done):
        # What each training took when it was done, be it now or, from the cache, earlier.
        seconds = sum(float(meta["metrics"].get("seconds", 0.0)) for _, meta in done)
        lab.costs["training"] = Cost(seconds, samples, samples)
    return done


def training_seed(seed: int, at: int) -> int:
    """Return the seed of one candidate's training, of ``seed`` and of its place.

    Those of two seeds never meet: with their sum, the second network of seed 0 and the first of seed 1 were one and the
    same wherever both searches found one architecture.
    """
    return seed * MOST_CANDIDATES + at


def _given(
    one: Found, weights: Mapping[str, torch.Tensor], folder: Path, data: Dataset
) -> tuple[Ensemble, Mapping[str, Any]]:
    network = models.build(one.arch, data.shape[0], len(data.classes), one.arch_params)
    network.load_state_dict(dict(weights))
    channels = data.shape[0]
    ensemble = Ensemble([Member(network, [0.0] * channels, [1.0] * channels)]).eval()
    accuracy, _ = accuracies(ensemble, data.split("validation"))
    save_ensemble(
        ensemble, folder, arch=[one.arch], arch_params=[one.arch_params], classes=list(data.classes), shape=data.shape,
        data={"name": data.name, "sha256": data.split("train").sha256()}, metrics={"validation_accuracy": accuracy},
    )  # fmt: skip
    return ensemble, read_meta(folder)
