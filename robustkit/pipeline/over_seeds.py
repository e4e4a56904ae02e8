"""Mean and standard deviation over training seeds: of every accuracy of ensembles that differ in nothing else."""

from __future__ import annotations

import json
import statistics
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from robustkit.functional.stats import wilson
from robustkit.records.cells import EnsembleRecord
from robustkit.records.schema import EnsembleResult, Evaluation, OverSeeds, WorstCase

FEWEST = 2  # seeds that have a standard deviation


def over_seeds(
    records: Sequence[EnsembleRecord], n: int, ensembles: Sequence[EnsembleResult], evaluations: Sequence[Evaluation],
    worst: Sequence[WorstCase],
) -> list[OverSeeds]:  # fmt: skip
    """Return the aggregates of a study over seeds, nothing where there are fewer than two seeds.

    Parameters
    ----------
    records : sequence of EnsembleRecord
        Those of a group that differs in the seed alone name it.
    n : int
        Samples that every accuracy is a share of.
    """
    seeds = {record.id: record.seed for record in records if record.group and record.seed is not None}
    groups = {record.id: record.group for record in records}
    found: dict[str, list[tuple[str, float]]] = {}

    def note(ensemble: str, value: float, **about: Any) -> None:
        if ensemble in seeds:
            key = json.dumps({"group": groups[ensemble], **about}, sort_keys=True)
            found.setdefault(key, []).append((ensemble, value))

    for e in ensembles:
        note(
            e["id"],
            e["accuracy"],
            metric="accuracy",
            attack="",
            backend="",
            params={},
            eps=0.0,
            norm="",
            targeted=False,
        )
    for one in evaluations:
        same = {k: one[k] for k in ("attack", "backend", "params", "eps", "norm", "targeted")}
        note(one["ensemble"], one["robust_accuracy"], metric="robust_accuracy", **same)
    for w in worst:
        about = {"attack": "", "backend": "", "params": {}, "eps": w["eps"], "norm": w["norm"], "targeted": False}
        note(w["ensemble"], w["robust_accuracy"], metric="worst_case", **about)
    return [
        _aggregate(json.loads(key), rows, seeds, n)
        for key, rows in found.items()
        if len(rows) >= FEWEST and len(dict(rows)) == len(rows)
    ]


def _aggregate(
    about: Mapping[str, Any], rows: Iterable[tuple[str, float]], seeds: Mapping[str, int], n: int
) -> OverSeeds:
    ids, values = zip(*rows, strict=True)
    mean = statistics.fmean(values)
    return OverSeeds(
        group=about["group"], metric=about["metric"], attack=about["attack"], backend=about["backend"],
        params=about["params"], eps=about["eps"], norm=about["norm"], targeted=about["targeted"], ensembles=list(ids),
        seeds=[seeds[one] for one in ids], values=list(values), mean=mean, std=statistics.stdev(values),
        # Wilson's, of the mean over seeds of each sample's correctness: it varies less than right answers would.
        ci95=list(wilson(min(mean * n, n), n)),
    )  # fmt: skip
