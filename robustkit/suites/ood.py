"""Out-of-distribution detection: do an ensemble's scores tell its test images from images of none of its classes?"""

from __future__ import annotations

import functools
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from robustkit import ood
from robustkit.base.errors import RunError
from robustkit.data import Split
from robustkit.metrics.roc import roc
from robustkit.metrics.scores import Score, scores
from robustkit.ood._sets import build
from robustkit.records.cells import Cell, EnsembleRecord
from robustkit.records.samples import Samples
from robustkit.records.schema_suites import OodMean, OodResult, OodScore, OodSetResult
from robustkit.records.store import Store
from robustkit.study.plan import Study
from robustkit.suites import Job, SuiteRequest, suite
from robustkit.suites._scoring import Lacking, score_all

DECIMALS = 4  # of a stored curve
MEANS = ("auroc", "aupr", "aupr_ood", "fpr95")


@suite("ood", title="Out-of-distribution detection")
class Ood:
    """Every score of :mod:`robustkit.metrics.scores` on every set, from the stored logits of the set's images."""

    @staticmethod
    def ask(request: SuiteRequest) -> Mapping[str, Any]:
        """Read and check the sets; return what they are."""
        named = ood.chosen(request.options.get("ood")) or ood.shipped()
        sets = [build(name, distance, request.data.split, request.data.load) for distance, name in named]
        return {"sets": [one.to_json() for one in sets]}

    @staticmethod
    def run(job: Job) -> list[str]:
        """Score the images of every set that the store lacks."""
        score_all(job, "out-of-distribution sets", [_lacking(job, asked) for asked in job.request["sets"]])
        return list(_warnings(job.study, job.store))

    @staticmethod
    def results(study: Study, store: Store) -> list[OodResult]:
        """Return one record for each ensemble."""
        return [_result(study, store, record) for record in study.ensembles]


def _cell(study: Study, record: EnsembleRecord, asked: Mapping[str, Any]) -> Cell:
    return Cell("clean", record.key, asked["sha256"], seed=study.seed, version=study.version)


def _lacking(job: Job, asked: Mapping[str, Any]) -> Lacking:
    """Return the cells of a set that the store lacks."""
    cells = [_cell(job.study, record, asked) for record in job.study.ensembles]
    return Lacking(
        f"images of {asked['name']}", functools.partial(_again, job, asked),
        [cell for cell in cells if job.store.load(cell) is None],
    )  # fmt: skip


def _again(job: Job, asked: Mapping[str, Any]) -> Split:
    """Read the images of a set anew; they must be what they were when it was asked for."""
    made = build(asked["name"], asked["distance"], job.data.split, job.data.load)
    if made.split.sha256() != asked["sha256"]:
        raise RunError(f"the images of the out-of-distribution set '{asked['name']}' have changed; run it again.")
    return made.split


def _warnings(study: Study, store: Store) -> Iterator[str]:
    for asked in study.suite_requests["ood"]["sets"]:
        if asked["duplicates"]:
            drawn = asked["duplicates"] + asked["n"]
            yield f"ood set '{asked['name']}': {asked['duplicates']} of {drawn} are evaluated images; left out"
        for record in study.ensembles:
            failed = int(store.get(_cell(study, record, asked)).samples.failed.sum())
            if failed:
                yield f"{record.id}: the output on {failed} images of '{asked['name']}' is not finite; left out"


def _result(study: Study, store: Store, record: EnsembleRecord) -> OodResult:
    chosen = scores(record.members)
    clean = store.get(study.clean(record)).samples
    normal = _scored(clean, chosen)
    sets = [_set(study, store, record, asked, normal, chosen) for asked in study.suite_requests["ood"]["sets"]]
    return OodResult(ensemble=record.id, n=int((~clean.failed).sum()), sets=sets, means=_means(sets, chosen))


def _set(
    study: Study, store: Store, record: EnsembleRecord, asked: Mapping[str, Any],
    normal: Mapping[str, Any], chosen: Mapping[str, Score],
) -> OodSetResult:  # fmt: skip
    samples = store.get(_cell(study, record, asked)).samples
    others = _scored(samples, chosen)
    return OodSetResult(
        name=asked["name"],
        distance=asked["distance"],
        what=asked["what"],
        adaptation=asked["adaptation"],
        n=asked["n"],
        found=asked["found"],
        duplicates=asked["duplicates"],
        failed=int(samples.failed.sum()),
        scores=[_score(name, normal[name], others[name], study.seed) for name in chosen],
    )


def _scored(samples: Samples, chosen: Mapping[str, Score]) -> dict[str, Any]:
    """Return each score of the samples whose output is finite."""
    whole = samples.whole()
    return {name: score(whole.member_logits, whole.fused) for name, score in chosen.items()}


def _score(name: str, normal: Any, others: Any, seed: int) -> OodScore:
    if not len(normal) or not len(others):
        return OodScore(score=name, auroc=None, ci95=None, aupr=None, aupr_ood=None, fpr95=None, fpr=[], tpr=[])
    found = roc(normal, others, seed=seed)
    return OodScore(
        score=name,
        auroc=found.auroc,
        ci95=list(found.ci95),
        aupr=found.aupr,
        aupr_ood=found.aupr_other,
        fpr95=found.fpr95,
        fpr=[round(float(v), DECIMALS) for v in found.fpr],
        tpr=[round(float(v), DECIMALS) for v in found.tpr],
    )


def _means(sets: Sequence[OodSetResult], chosen: Mapping[str, Score]) -> list[OodMean]:
    """Return the mean of each score over the near and over the far sets, where there are any."""
    means = []
    for distance in (ood.NEAR, ood.FAR):
        own = [one for one in sets if one["distance"] == distance]
        for at, name in enumerate(chosen if own else ()):
            values = {field: _mean([one["scores"][at][field] for one in own]) for field in MEANS}  # type: ignore[literal-required]
            means.append(OodMean(distance=distance, score=name, sets=len(own), **values))  # type: ignore[typeddict-item]
    return means


def _mean(values: Sequence[float | None]) -> float | None:
    numbers = [value for value in values if value is not None]
    return float(np.mean(numbers)) if len(numbers) == len(values) else None
