"""Stored corruption cells to the ``corruptions`` of ``results.json``."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from robustkit.corruptions import _plan
from robustkit.corruptions._plan import cell_of, missing
from robustkit.functional.stats import finite
from robustkit.metrics.calibration import brier, ece, nll
from robustkit.metrics.corruption import ALEXNET, ALEXNET_CLEAN, mce, relative_mce
from robustkit.records.cells import EnsembleRecord, Run, Spec
from robustkit.records.schema import CorruptionLevel, CorruptionResult
from robustkit.records.store import Store
from robustkit.study.plan import Study

IMAGENET_CLASSES = 1000  # of the data on which AlexNet's errors were measured
Loaded = Sequence[tuple[Spec, Run]]


@dataclass(frozen=True)
class Reference:
    """Errors in [0, 1] that others are divided by: of each corruption and on clean images."""

    name: str
    errors: Mapping[str, float]
    clean: float


def corruption_results(study: Study, store: Store) -> list[CorruptionResult]:
    """Return one result for each ensemble and suite; RunError names a cell that the store lacks."""
    if "corruptions" not in study.suites:
        return []
    found = []
    for suite in dict.fromkeys(spec.kind for spec in study.corruptions):
        specs = [spec for spec in study.corruptions if spec.kind == suite]
        runs = {e.id: [(spec, store.get(cell_of(study, e, spec))) for spec in specs] for e in study.ensembles}
        clean = {e.id: store.get(study.clean(e)) for e in study.ensembles}
        reference = _reference(study, suite, runs, clean)
        found += [_result(study, suite, e, runs[e.id], clean[e.id], reference) for e in study.ensembles]
    return found


def _reference(study: Study, suite: str, runs: Mapping[str, Loaded], clean: Mapping[str, Run]) -> Reference | None:
    """Return who was asked for; else AlexNet for ImageNet-C on its classes, else the plain ensemble beside others."""
    name = study.corruption_reference
    if not name and suite.startswith("imagenet-c") and len(study.dataset.classes) == IMAGENET_CLASSES:
        name = _plan.ALEXNET
    if not name and len(study.ensembles) > 1:
        name = next((e.id for e in study.ensembles if e.defense == "baseline"), "")
    if name == _plan.ALEXNET:
        known = all(spec.name in ALEXNET for spec in study.corruptions if spec.kind == suite)
        return Reference(name, ALEXNET, ALEXNET_CLEAN) if known else None
    return Reference(name, _errors(runs[name]), 1 - _accuracy(clean[name])) if name else None


def _result(
    study: Study, suite: str, ensemble: EnsembleRecord, loaded: Loaded, clean: Run, reference: Reference | None
) -> CorruptionResult:
    rows = [_level(spec, run) for spec, run in loaded]
    errors, accuracy = _errors(loaded), _accuracy(clean)
    mean = 1 - float(np.mean(list(errors.values())))
    quoted = relative = None
    if reference is not None:
        quoted = finite(mce(errors, reference.errors))
        relative = finite(relative_mce(errors, 1 - accuracy, reference.errors, reference.clean))
    return CorruptionResult(
        ensemble=ensemble.id,
        suite=suite,
        source="published" if any("published" in spec.params for spec, _ in loaded) else "generated",
        missing=missing(study, suite),
        notes=_notes(study, suite, loaded, reference),
        clean_accuracy=accuracy,
        accuracy=mean,
        accuracy_drop=accuracy - mean,
        clean_member_accuracy=_members(clean),
        member_accuracy=[float(v) for v in np.mean([row["member_accuracy"] for row in rows], 0)],
        mce=quoted,
        relative_mce=relative,
        reference=reference.name if reference else None,
        nll=_mean(rows, "nll"),
        ece=_mean(rows, "ece"),
        brier=_mean(rows, "brier"),
        levels=rows,
    )


def _level(spec: Spec, run: Run) -> CorruptionLevel:
    whole = run.samples.whole()
    log_p, y = whole.fused, whole.y
    strength = spec.params.get("strength")
    return CorruptionLevel(
        corruption=spec.name,
        severity=int(spec.params["severity"]),
        strength=None if strength is None else float(strength),
        accuracy=_accuracy(run),
        member_accuracy=_members(run),
        nll=finite(nll(log_p, y)) if len(y) else None,
        ece=finite(ece(log_p, y)) if len(y) else None,
        brier=finite(brier(log_p, y)) if len(y) else None,
    )


def _notes(study: Study, suite: str, loaded: Loaded, reference: Reference | None) -> list[str]:
    """Return what a reader must know to compare the numbers with published ones."""
    notes = []
    lacking = missing(study, suite)
    if lacking:
        notes.append(f"The published set lacks {', '.join(lacking)} or a part of it; the means are over the rest.")
    tables = {spec.params["table"] for spec, _ in loaded if "table" in spec.params}
    sides = {"cifar": 32, "imagenet": 224}
    for table in sorted(tables):
        if min(study.dataset.shape[1:]) != sides[table]:
            height, width = study.dataset.shape[1:]
            scaled = "Strengths" if suite.endswith("-bar") else "Constants that are lengths, scaled,"
            notes.append(f"{scaled} are those for {sides[table]} pixels; images are {height}x{width}.")
    if any(spec.name == "frost" and not {"textures", "published"} & set(spec.params) for spec, _ in loaded):
        notes.append("Frost is grown from noise, not cut from the published photographs; --frost-dir names these.")
    if study.dataset.shape[0] == 1 and any(spec.name == "saturate" for spec, _ in loaded):
        notes.append("Images have one channel, so that saturate changes nothing.")
    if reference is None:
        if study.corruption_reference:
            notes.append("AlexNet's errors are known on the corruptions of ImageNet-C alone: no mCE.")
        return notes
    harmless = [name for name in _errors(loaded) if not reference.errors[name] > reference.clean]
    if harmless:
        notes.append(f"Relative mCE is not defined: {', '.join(harmless)} raised no error of {reference.name}.")
    return notes


def _errors(loaded: Loaded) -> dict[str, float]:
    """Return the error of each corruption, mean over its severities."""
    by: dict[str, list[float]] = {}
    for spec, run in loaded:
        by.setdefault(spec.name, []).append(1 - _accuracy(run))
    return {name: float(np.mean(errors)) for name, errors in by.items()}


def _accuracy(run: Run) -> float:
    return float(run.samples.correctness.mean())


def _members(run: Run) -> list[float]:
    return [float(a) for a in (run.samples.member_prediction == run.samples.y).mean(1)]


def _mean(rows: Sequence[CorruptionLevel], name: str) -> float | None:
    """Return the mean over corruptions and severities, None where one is not defined."""
    values: list[float | None] = [row[name] for row in rows]  # type: ignore[literal-required]
    numbers = [value for value in values if value is not None]
    return float(np.mean(numbers)) if len(numbers) == len(values) else None
