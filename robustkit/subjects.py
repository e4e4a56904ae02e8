"""The ensembles that an evaluation is about: trained with a defence, from the cache, or from a checkpoint."""

from __future__ import annotations

import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from robustkit import __version__, paths
from robustkit.checkpoint import load_ensemble, save_ensemble
from robustkit.data import Dataset
from robustkit.ensemble import Ensemble
from robustkit.errors import UserError
from robustkit.progress import Reporter
from robustkit.records import EnsembleRecord, Spec, digest
from robustkit.training import TrainSpec, fit

Subject = tuple[EnsembleRecord, Ensemble]


def train_spec(
    defense: Spec, loaded: Dataset, arch: str | None, members: int, epochs: int | None, fusion: str | None, seed: int,
    training: Any,
) -> TrainSpec:  # fmt: skip
    """Return the whole training recipe: the dataset's, with what the user changed."""
    recipe = loaded.recipe
    return TrainSpec(
        defense=defense,
        dataset=loaded.name,
        data_sha256=loaded.split("train").sha256(),
        arch=arch or recipe.arch,
        members=members,
        epochs=epochs or recipe.epochs,
        flip=loaded.flip,
        fusion=fusion or "mean-prob",
        seed=seed,
        version=__version__,
        **{"lr": recipe.lr, **training},
    )


def trained(spec: TrainSpec, loaded: Dataset, device: torch.device, reporter: Reporter) -> Subject:
    """Return an ensemble from the cache, or train it and put it there."""
    folder = paths.cache_dir() / "ensembles" / spec.key
    try:
        ensemble = load_ensemble(folder, arch=spec.arch)
    except UserError:  # not there, or damaged: train it (again)
        what = f"{spec.members} x {spec.arch} on {spec.dataset}"
        reporter.say(f"training {spec.defense.name}: {what}, {spec.epochs} epochs, on {device}")
        started = time.perf_counter()
        fitted = fit(spec, loaded, device=device, reporter=reporter)
        ensemble = fitted.ensemble.cpu()
        save(ensemble, folder, spec, loaded, fitted.metrics, fitted.history)
        accuracy = fitted.metrics["validation_accuracy"]
        reporter.say(f"  {time.perf_counter() - started:.0f} s, validation accuracy {accuracy:.3f}, cached in {folder}")
    archs = [spec.arch] * spec.members
    return _record(spec.defense.name, spec.defense.name, spec.defense.params, archs, ensemble), ensemble


def save(
    ensemble: Ensemble, folder: Path, spec: TrainSpec, loaded: Dataset, metrics: Any, history: list[dict[str, float]]
) -> None:
    """Write a trained ensemble with everything that is known of its training."""
    save_ensemble(
        ensemble, folder, arch=[spec.arch] * spec.members, classes=list(loaded.classes), shape=loaded.shape,
        arch_params=[spec.arch_params] * spec.members, training=spec.to_json(),
        data={"name": loaded.name, "sha256": spec.data_sha256}, metrics=metrics, history=history,
    )  # fmt: skip


def from_checkpoint(path: str | Path, meta: Any, arch: str | None, fusion: str | None, loaded: Dataset) -> Subject:
    """Load a checkpoint whose JSON is ``meta``; a :class:`UserError` if it does not fit the data."""
    if tuple(meta["shape"]) != loaded.shape or len(meta["classes"]) < len(loaded.classes):
        raise UserError(
            f"checkpoint '{path}' takes images of shape {tuple(meta['shape'])} in {len(meta['classes'])} classes, "
            f"but dataset '{loaded.name}' has shape {loaded.shape} in {len(loaded.classes)} classes."
        )
    ensemble = load_ensemble(path, fusion=fusion, arch=arch)
    method = (meta.get("training") or {}).get("defense") or {"name": "unknown", "params": {}}
    archs = [member["arch"] for member in meta["members"]]
    return _record(Path(meta["folder"]).resolve().name, method["name"], method["params"], archs, ensemble), ensemble


def _record(id: str, defense: str, params: Any, arch: list[str], ensemble: Ensemble) -> EnsembleRecord:
    weights = ensemble.fingerprint()
    key = digest({"weights": weights, "fusion": ensemble.fusion, "arch": arch})
    return EnsembleRecord(id, key, defense, dict(params), tuple(arch), len(ensemble), ensemble.fusion, weights)


def distinct_ids(records: list[EnsembleRecord]) -> list[EnsembleRecord]:
    """Return the records with ids that differ: a second ``adp`` becomes ``adp-2``."""
    counts: dict[str, int] = {}
    distinct = []
    for record in records:
        counts[record.id] = counts.get(record.id, 0) + 1
        distinct.append(record if counts[record.id] == 1 else replace(record, id=f"{record.id}-{counts[record.id]}"))
    return distinct
