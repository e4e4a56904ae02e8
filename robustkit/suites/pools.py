"""Subsets of a pool of members: what an ensemble gains over its best member, against how much its members differ."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np

from robustkit.base.errors import RunError
from robustkit.corruptions._plan import cell_of
from robustkit.ensembles import pool
from robustkit.functional.stats import finite
from robustkit.metrics import subsets as metric
from robustkit.records.cells import Spec
from robustkit.records.samples import Samples
from robustkit.records.schema_members import PoolCorrelation, PoolMember, PoolResult, PoolRule, PoolSet
from robustkit.records.store import Store
from robustkit.study.plan import Study
from robustkit.suites import Job, SuiteRequest, suite

MOST = 2000  # subsets that are scored; of more, so many are drawn


@suite("pools", title="Subsets of a pool of members")
class Pools:
    """All subsets of the members of several ensembles, from the logits of each member (design-diversity paper, 4.2).

    The paper's Figures 5 to 8: gain = accuracy of the subset - accuracy of its best member, against each measure of
    diversity, with their correlation on each validation set. Deviations: votes that are equal are decided by the summed
    probability, not at random; attribution maps are compared on the first images of a set, not on all.
    """

    @staticmethod
    def ask(request: SuiteRequest) -> Mapping[str, Any]:
        """Return size, members and validation sets; ``options`` hold what :func:`.pool.ask` takes."""
        options = request.options
        return pool.ask(options["pool"], options["models"], options["corruptions"], options["corruption_dir"])

    @staticmethod
    def run(job: Job) -> list[str]:
        """Score the members on every validation set, and compare their saliency maps on its first images."""
        from robustkit.corruptions._published import Published
        from robustkit.corruptions._run import run_corruptions
        from robustkit.suites import _pool_maps

        corruptions = _corruptions(job.request)
        published = Published(job.request["corruption_dir"]) if job.request["corruption_dir"] else None
        needed = replace(job.study, corruptions=tuple(corruptions), suites=("corruptions",))
        warnings = run_corruptions(
            needed, job.ensembles, job.data.split, job.store, job.run_options, job.reporter, published
        )  # fmt: skip
        if job.request["images"]:
            _pool_maps.run(job, [None, *corruptions], published)
        return [*warnings, *_notes(job.study)]

    @staticmethod
    def results(study: Study, store: Store) -> list[Any]:
        """Return one record with every validation set."""
        asked = study.suite_requests["pools"]
        members = len(asked["members"])
        chosen = metric.choose(members, asked["size"], MOST, study.seed)
        ids = {record.key: record.id for record in study.ensembles}
        return [
            PoolResult(
                subset_size=asked["size"],
                possible=math.comb(members, asked["size"]),
                members=[PoolMember(**{**m, "ensemble": ids[m["ensemble"]]}) for m in asked["members"]],  # type: ignore[typeddict-item]
                subsets=chosen.tolist(),
                sets=[_set(study, store, chosen, corruption) for corruption in [None, *_corruptions(asked)]],
                notes=_notes(study),
            )
        ]


def _set(study: Study, store: Store, chosen: metric.Ints, corruption: Spec | None) -> PoolSet:
    """Score every subset on one validation set."""
    logits, y = _logits(study, store, corruption)
    whole = np.isfinite(logits).all((0, 2))
    if not whole.any():
        raise RunError("a member's output is not finite on any sample; leave it out of the pool.")
    scored = metric.score(logits[:, whole], y[whole], chosen)
    products = _products(study, store, corruption)
    measures = {
        **scored.measures,
        "attribution_variance": _variance(products, chosen, False),
        "attribution_variance_normalised": _variance(products, chosen, True),
    }
    return PoolSet(
        name=_name(study, corruption),
        suite=corruption.kind if corruption else None,
        corruption=corruption.name if corruption else None,
        severity=int(corruption.params["severity"]) if corruption else None,
        n=int(whole.sum()),
        left_out=int((~whole).sum()),
        attribution_images=len(products),
        member_accuracy=scored.member_accuracy.tolist(),
        best_member=scored.best.tolist(),
        rules=[_rule(rule, scored) for rule in metric.RULES],
        measures={name: [finite(v) for v in measures[name].tolist()] for name in metric.MEASURES},
        correlations=[
            _correlation(rule, name, scored.gain(rule), measures[name])
            for rule in metric.RULES
            for name in metric.MEASURES
        ],
    )


def _logits(study: Study, store: Store, corruption: Spec | None) -> tuple[Any, metric.Ints]:
    """Return the logits of every member of the pool, (M, N, L), and the labels (N,)."""
    runs: dict[str, Samples] = {}
    for record in study.ensembles:
        cell = study.clean(record) if corruption is None else cell_of(study, record, corruption)
        runs[record.key] = store.get(cell).samples
    members = study.suite_requests["pools"]["members"]
    logits = np.stack([runs[member["ensemble"]].member_logits[member["member"]] for member in members])
    return logits, next(iter(runs.values())).y


def _products(study: Study, store: Store, corruption: Spec | None) -> Any:
    """Return the products of the members' maps, (N, M, M); no rows where none were asked for."""
    from robustkit.suites import _pool_maps

    asked = study.suite_requests["pools"]
    if not asked["images"]:
        return np.zeros((0, len(asked["members"]), len(asked["members"])))
    found = store.load_facts(_pool_maps.cell(study, asked, corruption))
    if found is None:
        raise RunError(f"the store '{store.folder}' lacks the pool's maps; run the same `robustkit evaluate` again.")
    return found.arrays["products"]


def _variance(products: Any, chosen: metric.Ints, normalised: bool) -> metric.Floats:
    if not len(products):
        return np.full(len(chosen), np.nan)
    return metric.attribution_variance(products, chosen, normalised=normalised)


def _rule(rule: str, scored: metric.Scored) -> PoolRule:
    gain = scored.gain(rule)
    return PoolRule(
        rule=rule, accuracy=scored.accuracy[rule].tolist(), gain=gain.tolist(), mean_gain=float(gain.mean()),
        gained=float((gain > 0).mean()),
    )  # fmt: skip


def _correlation(rule: str, name: str, gain: metric.Floats, measure: metric.Floats) -> PoolCorrelation:
    pearson, spearman, count = metric.correlations(gain, measure)
    return PoolCorrelation(
        rule=rule, measure=name, pearson=finite(pearson), spearman=finite(spearman), subsets=count
    )  # fmt: skip


def _corruptions(asked: Mapping[str, Any]) -> list[Spec]:
    return [Spec.from_json(value) for value in asked["corruptions"]]


def _name(study: Study, corruption: Spec | None) -> str:
    """Return what a validation set is called: the corruption, with its suite where two suites have it."""
    if corruption is None:
        return "clean"
    same = [spec for spec in _corruptions(study.suite_requests["pools"]) if spec.name == corruption.name]
    return corruption.name if len(same) == 1 else f"{corruption.kind}: {corruption.name}"


def _notes(study: Study) -> list[str]:
    """Return what a reader must know of the pool."""
    asked = study.suite_requests["pools"]
    possible, doubles = math.comb(len(asked["members"]), asked["size"]), list(asked["doubles"])
    notes = [f"{len(doubles)} double: {'; '.join(doubles)}."] if doubles else []
    if possible > MOST:
        notes.append(f"{MOST} of {possible} subsets were drawn at random with seed {study.seed}.")
    return notes
