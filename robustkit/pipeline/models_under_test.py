"""The ensembles that an evaluation is about: trained with a defence, from the cache, or from a checkpoint."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from robustkit import models
from robustkit.base import paths
from robustkit.base.errors import RunError, UserError
from robustkit.base.files import sha256_of
from robustkit.base.progress import Reporter
from robustkit.base.version import __version__
from robustkit.data import Dataset, Split
from robustkit.defenses import defense as defenses
from robustkit.ensembles.checkpoint import WEIGHTS, load_ensemble, read_meta, save_ensemble
from robustkit.ensembles.ensemble import Ensemble
from robustkit.functional.stats import wilson_of
from robustkit.records.cells import EnsembleRecord, Spec, digest
from robustkit.training.loop import Diverged, fit, remedy
from robustkit.training.ranks import Ranks
from robustkit.training.spec import TrainSpec
from robustkit.training.untrained import initialise

ModelUnderTest = tuple[EnsembleRecord, Ensemble]
Surrogate = tuple[EnsembleRecord, Ensemble, Mapping[str, Any]]  # with the "data" of its checkpoint's record


def train_spec(
    defense: Spec, loaded: Dataset, asked: Mapping[str, Any], *, paper: Mapping[str, Any] | None = None,
    outliers: Dataset | None = None, speed: str = "auto", seed: int = 0, processes: int = 1,
) -> TrainSpec:  # fmt: skip
    """Return the whole training recipe: what the user asked for, else the paper's, else the dataset's.

    ``asked`` holds fields of :class:`TrainSpec`; those that are None count as not asked for.
    """
    own = loaded.recipe
    recipe = {"arch": own.arch, "epochs": own.epochs, "lr": own.lr, "flip": loaded.flip}
    recipe["fusion"] = fusion_of(defense.name)
    chosen = {**recipe, **(paper or {}), **{name: value for name, value in asked.items() if value is not None}}
    chosen["arch"], chosen["arch_params"] = models.resolve(chosen["arch"], chosen.get("arch_params"))
    return TrainSpec(
        defense=defense,
        dataset=loaded.name,
        data_sha256=loaded.split("train").sha256(),
        seed=seed,
        version=__version__,
        outliers_sha256=outliers.split("train").sha256() if outliers else "",
        speed=speed,
        processes=processes,
        arch_sha256=models.source_digest(chosen["arch"]),
        **chosen,
    )


def fusion_of(defense: str) -> str:
    """Return the fusion rule of what a defence trains where none is asked for."""
    return str(defenses.entry(defense).facts.get("fusion", TrainSpec.fusion))


def outliers_of(defense: Spec, load: Callable[[str], Dataset]) -> Dataset | None:
    """Return the dataset of outliers that a defence names in its parameters, or None where it needs none."""
    named = [value for name, value in defense.params.items() if name.rpartition(".")[2] == "outliers"]
    return load(str(named[0])) if named else None


def trained(
    spec: TrainSpec, loaded: Dataset, device: torch.device, reporter: Reporter, *, outliers: Dataset | None = None,
    progress: Path | None = None, ranks: Ranks | None = None,
) -> ModelUnderTest:  # fmt: skip
    """Return an ensemble from the cache, or train it and put it there.

    ``progress`` is where a training that is not done is kept; by default in the cache.
    """
    folder = folder_of(spec)
    ranks = ranks or Ranks()
    ensemble = _cached(folder, spec)
    if not ranks.decided(ensemble is not None):
        reporter.say(f"training {described(spec)}, on {device}")
        kept = progress or folder.with_name(f"{spec.key}.progress")
        started = time.perf_counter()
        try:
            fitted = fit(spec, loaded, device=device, reporter=reporter, outliers=outliers, progress=kept, ranks=ranks)
        except Diverged as error:
            raise with_last_good(error, spec, loaded, ranks) from None
        if ranks.leads:
            save(fitted.ensemble.cpu(), folder, spec, loaded, fitted.metrics, fitted.history)
            kept.unlink(missing_ok=True)
        ranks.decided(None)  # nobody reads before the leader has written
        say_trained(spec, loaded, fitted.metrics, time.perf_counter() - started, reporter)
    if ensemble is None:
        ensemble = load_ensemble(folder, arch=spec.arch)
    return _with_origin(spec, ensemble)


def described(spec: TrainSpec) -> str:
    """Return a few words for a person who watches: ``adp: 3 x simple on digits, 20 epochs``."""
    length = "1 epoch" if spec.epochs == 1 else f"{spec.epochs} epochs"
    return f"{spec.defense.name}: {spec.members} x {spec.arch} on {spec.dataset}, {length}"


def say_trained(
    spec: TrainSpec, loaded: Dataset, metrics: Mapping[str, Any], seconds: float, reporter: Reporter
) -> None:
    """Say what came of a training, and that it learned nothing where it is so."""
    accuracy, way = metrics["validation_accuracy"], metrics["way"]
    reporter.say(f"  {seconds:.0f} s ({way}), validation accuracy {accuracy:.3f}, cached in {folder_of(spec)}")
    if guesses(accuracy, loaded.split("validation")):
        reporter.say(
            f"  [yellow]warning:[/yellow] {spec.defense.name} is no better than always one answer; {remedy(spec)}."
        )


def _with_origin(spec: TrainSpec, ensemble: Ensemble) -> ModelUnderTest:
    """Return an ensemble of the cache with a record that says how it was trained."""
    record, ensemble = _with_record(spec, ensemble)
    return replace(record, **_origin(read_meta(folder_of(spec)))), ensemble


def _with_record(spec: TrainSpec, ensemble: Ensemble) -> ModelUnderTest:
    archs = [spec.arch] * spec.members
    return record_of(spec.defense.name, spec.defense.name, spec.defense.params, archs, ensemble), ensemble


def guesses(accuracy: float, split: Split) -> bool:
    """Return whether a split cannot tell this accuracy from that of always answering its most frequent class."""
    return wilson_of(accuracy, len(split))[0] <= int(split.y.bincount().max()) / len(split)


def cached(spec: TrainSpec) -> ModelUnderTest | None:
    """Return the ensemble of a training that has been done already, else None."""
    ensemble = _cached(folder_of(spec), spec)
    return None if ensemble is None else _with_origin(spec, ensemble)


def untrained(spec: TrainSpec, loaded: Dataset) -> ModelUnderTest:
    """Return the ensemble that a training begins with: as large and as slow as what it will give."""
    record, ensemble = _with_record(spec, initialise(spec, loaded))
    return replace(record, key=f"untrained-{spec.key}"), ensemble


def folder_of(spec: TrainSpec) -> Path:
    """Return the folder in the cache that a training's ensemble is kept in."""
    return paths.cache_dir() / "ensembles" / spec.key


def _cached(folder: Path, spec: TrainSpec) -> Ensemble | None:
    try:
        return load_ensemble(folder, arch=spec.arch)
    except UserError:  # not there, or damaged: train it (again)
        return None


def with_last_good(error: Diverged, spec: TrainSpec, loaded: Dataset, ranks: Ranks) -> RunError:
    """Keep the best epoch before a training broke, and say where."""
    if error.kept is None:
        return error
    place = folder_of(spec).with_name(f"{spec.key}-last-good")
    if ranks.leads:
        save(error.kept.ensemble.cpu(), place, spec, loaded, error.kept.metrics, error.kept.history)
    return RunError(
        f"{error} The best epoch before that, {error.kept.metrics['best_epoch']:.0f}, is kept in '{place}'."
    )


def save(
    ensemble: Ensemble, folder: Path, spec: TrainSpec, loaded: Dataset, metrics: Any, history: list[dict[str, float]]
) -> None:
    """Write a trained ensemble with everything that is known of its training."""
    save_ensemble(
        ensemble, folder, arch=[spec.arch] * spec.members, classes=list(loaded.classes), shape=loaded.shape,
        arch_params=[spec.arch_params] * spec.members, training=spec.to_json(),
        data={"name": loaded.name, "sha256": spec.data_sha256}, metrics=metrics, history=history,
    )  # fmt: skip


def from_checkpoint(
    path: str | Path, meta: Any, arch: str | None, fusion: str | None, loaded: Dataset
) -> ModelUnderTest:
    """Load a checkpoint whose JSON is ``meta``; a :class:`UserError` if it does not fit the data."""
    if tuple(meta["shape"]) != loaded.shape or len(meta["classes"]) < len(loaded.classes):
        raise UserError(
            f"checkpoint '{path}' takes images of shape {tuple(meta['shape'])} in {len(meta['classes'])} classes, "
            f"but dataset '{loaded.name}' has shape {loaded.shape} in {len(loaded.classes)} classes."
        )
    ensemble = load_ensemble(path, fusion=fusion, arch=arch)
    method = (meta.get("training") or {}).get("defense") or {"name": "unknown", "params": {}}
    archs = [models.as_named(member["arch"], arch) for member in meta["members"]]
    record = record_of(name_of(meta), method["name"], method["params"], archs, ensemble)
    return replace(record, **_origin(meta)), ensemble


def _origin(meta: Mapping[str, Any]) -> dict[str, Any]:
    """Return where an ensemble is from, by the JSON of its checkpoint: the file, the recipe, what came of it."""
    weights = (Path(meta["folder"]) / WEIGHTS).resolve()
    recipe = meta.get("training")
    return {
        "checkpoint": {"path": str(weights), "sha256": sha256_of(weights)},
        "training": {"recipe": recipe, "metrics": meta.get("metrics") or {}} if recipe else None,
    }


def name_of(meta: Any) -> str:
    """Return what a checkpoint is called: by its folder."""
    return Path(meta["folder"]).resolve().name


def record_of(id: str, defense: str, params: Any, arch: list[str], ensemble: Ensemble) -> EnsembleRecord:
    """Return what a report says of an ensemble; its key names weights, fusion rule, architectures and their code."""
    weights = ensemble.fingerprint()
    named = {"weights": weights, "fusion": ensemble.fusion, "arch": arch}
    code = [models.source_digest(name) for name in arch]
    key = digest({**named, "code": code} if any(code) else named)
    return EnsembleRecord(id, key, defense, dict(params), tuple(arch), len(ensemble), ensemble.fusion, weights)


def distinct(names: Iterable[str]) -> list[str]:
    """Return the names as ids that differ: a second ``adp`` becomes ``adp-2``."""
    counts = Counter[str]()
    ids = []
    for name in names:
        counts[name] += 1
        ids.append(name if counts[name] == 1 else f"{name}-{counts[name]}")
    return ids
