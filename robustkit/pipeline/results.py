"""Stored runs to ``results.json``: every number is computed here, from per-sample facts, and nowhere else."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, cast

import numpy as np
import numpy.typing as npt

from robustkit import suites
from robustkit.corruptions._results import corruption_results
from robustkit.functional.stats import wilson_of
from robustkit.pipeline.across import optimality, unions
from robustkit.pipeline.ceilings import with_ceilings
from robustkit.pipeline.outcomes import comparisons, samples_of
from robustkit.pipeline.outcomes import over_seeds as compared_over_seeds
from robustkit.pipeline.over_seeds import over_seeds
from robustkit.pipeline.placement import placed, unplaced
from robustkit.records.cells import EnsembleRecord, Run
from robustkit.records.json_schema import NAME
from robustkit.records.outcomes import SampleOutcomes
from robustkit.records.samples import NOT_ATTACKED
from robustkit.records.schema import (
    SCHEMA_VERSION,
    DatasetResult,
    EnsembleResult,
    Escalation,
    Evaluation,
    MinimumNorm,
    Results,
    Transfer,
    WorstCase,
)
from robustkit.records.schema_proofs import Proven
from robustkit.records.store import Store
from robustkit.study.distortion import minimum_norm
from robustkit.study.plan import Study
from robustkit.trust import Scored, judge
from robustkit.trust._escalate import Known, path

SUITES = ("audit", "detection", "ood", "calibration", "diversity", "pools")
Bools = npt.NDArray[np.bool_]
Doubles = npt.NDArray[np.float64]


def build(study: Study, store: Store, outcomes: list[SampleOutcomes] | None = None) -> Results:
    """Return the results of a study whose cells are all in the store; RunError names the first that is missing.

    ``outcomes`` is given what became of each sample, one item an ensemble.
    """
    evaluations: list[Evaluation] = []
    worst: list[WorstCase] = []
    transfer: list[Transfer] = []
    smallest: list[MinimumNorm] = []
    across: dict[str, list[Any]] = {"union": [], "optimality": []}
    ensembles: list[EnsembleResult] = []
    escalation: list[Escalation] = []
    environment: dict[str, object] = {}
    correct: dict[str, SampleOutcomes] = {}
    for ensemble in study.ensembles:
        clean = store.get(study.clean(ensemble))
        environment = environment or unplaced(clean.environment)
        ensembles.append(_ensemble(ensemble, clean))
        known = Known.of(study, store, ensemble) if "attacks" in study.suites else None
        scored = known.runs if known else []
        correct[ensemble.id] = samples_of(ensemble, clean, scored, answers=outcomes is not None)
        if known:
            evaluations += [_evaluation(known, run, clean) for run in scored]
            worst += [_worst_case(known, *budget) for budget in known.budgets()]
            escalation += [taken for budget in known.budgets() if (taken := path(known, *budget))]
            runs = {run.run.cell.key: run.run for run in known.requested if run.run.cell.eps is None}
            elements = math.prod(study.dataset.shape)
            smallest += [minimum_norm(ensemble.id, run, clean, elements) for run in runs.values()]
            across["union"] += unions(known, study.unions(), worst)
            across["optimality"] += optimality(known, clean)
        if "transfer" in study.suites:
            transfer += _transfers(study, store, ensemble, clean)
    if outcomes is not None:
        outcomes += correct.values()
    compared = comparisons(study.ensembles, correct, study.unions())
    data, found = study.dataset, _dataset(study)
    results: dict[str, Any] = dict(
        schema_version=SCHEMA_VERSION,
        robustkit_version=study.version,
        environment=environment,
        seed=study.seed,
        dataset=found,
        ensembles=ensembles,
        evaluations=evaluations,
        worst_case=worst,
        surrogates=[_ensemble(record, store.get(study.clean(record))) for record in study.surrogates],
        transfer=transfer,
        minimum_norm=smallest,
        escalation=escalation,
        comparisons=compared,
        comparisons_over_seeds=compared_over_seeds(study.ensembles, compared),
        corruptions=corruption_results(study, store),
        **{name: _suite(name, study, store) for name in SUITES},
    )
    if aggregates := over_seeds(study.ensembles, data.n, ensembles, evaluations, worst):
        results["over_seeds"] = aggregates
    origin = {"$schema": NAME, **({"run": dict(study.run)} if study.run else {})}
    several = {name: rows for name, rows in across.items() if rows}
    proofs = _proofs(study, store, correct)
    return cast(Results, {**origin, **results, **several, **proofs, **placed(study, store)})


def _dataset(study: Study) -> DatasetResult:
    data = study.dataset
    found = DatasetResult(name=data.name, split=data.split, n=data.n, classes=list(data.classes), sha256=data.sha256)
    if data.image_size:
        found["image_size"] = data.image_size
    return found


def _proofs(study: Study, store: Store, correct: dict[str, SampleOutcomes]) -> Proven:
    """Return what was proven, by the suites that ran."""
    found = Proven()
    if "certified" in study.suite_requests:
        found["certified"] = with_ceilings(study, store, _suite("certified", study, store), correct)
    if "smoothing" in study.suite_requests:
        found["smoothing"] = _suite("smoothing", study, store)
    return found


def _suite(name: str, study: Study, store: Store) -> list[Any]:
    return suites.get(name).results(study, store) if name in study.suite_requests else []


def _ensemble(record: EnsembleRecord, clean: Run) -> EnsembleResult:
    own = clean.samples.member_prediction == clean.samples.y
    result = EnsembleResult(
        id=record.id,
        defense=record.defense,
        params=dict(record.params),
        arch="+".join(dict.fromkeys(record.arch)),
        members=record.members,
        weights_sha256=record.weights_sha256,
        fusion=record.fusion,
        checkpoint=dict(record.checkpoint) if record.checkpoint else None,  # type: ignore[typeddict-item]
        training=dict(record.training) if record.training else None,  # type: ignore[typeddict-item]
        accuracy=float(clean.samples.correctness.mean()),
        member_accuracy=[float(a) for a in own.mean(1)],
    )
    if record.group and record.seed is not None:
        result["group"], result["seed"] = record.group, record.seed
    return result


def _evaluation(known: Known, scored: Scored, clean: Run) -> Evaluation:
    run, standing = scored.run, scored.standing
    samples, attack = run.samples, run.cell.attack
    if attack is None:
        raise ValueError("a clean cell is no evaluation")
    attacked = samples.status != NOT_ATTACKED
    won = attacked & (samples.prediction == samples.target if run.cell.targeted else ~standing)
    verdict, checks = judge(known.evidence(scored))
    return Evaluation(
        ensemble=known.record.id,
        attack=attack.name,
        backend=run.cell.backend,
        params=run.cell.params,
        eps=scored.eps,
        norm=run.cell.norm,
        targeted=run.cell.targeted,
        clean_accuracy=float(clean.samples.correctness.mean()),
        robust_accuracy=float(scored.correctness.mean()),
        ci95=_interval(scored.correctness),
        mean_l0=_mean(samples.l0, won),
        mean_l1=_mean(samples.l1, won),
        mean_l2=_mean(samples.l2, won),
        mean_linf=_mean(samples.linf, won),
        forwards=_mean(samples.forwards, attacked) or 0.0,
        backwards=_mean(samples.backwards, attacked) or 0.0,
        seconds=float(samples.seconds.sum()),
        verdict=verdict,
        checks=checks,
    )


def _worst_case(known: Known, norm: str, eps: float) -> WorstCase:
    """Return the mean over samples of the minimum over every run at a budget."""
    evidence = known.worst(norm, eps)
    correctness = evidence.correctness
    verdict, checks = known.judged(evidence)
    return WorstCase(
        ensemble=known.record.id, eps=eps, norm=norm, robust_accuracy=float(correctness.mean()),
        ci95=_interval(correctness), verdict=verdict, checks=checks,
    )  # fmt: skip


def _interval(correctness: Doubles) -> list[float]:
    """Return Wilson's 95 % interval, also of an expected number of right answers.

    The expected correctness of samples varies less than right answers with the same mean would, so that it is safe.
    """
    return list(wilson_of(float(correctness.mean()), len(correctness)))


def _transfers(study: Study, store: Store, ensemble: EnsembleRecord, clean: Run) -> list[Transfer]:
    """Return the matrices of every attack that has them, untargeted and targeted."""
    found: list[Transfer] = []
    for norm, spec in study.transferred():
        for targeted in (False, True):
            cells = study.transfer(ensemble, spec, targeted, norm)
            found += _transfer(study, ensemble, [store.get(cell) for cell in cells], clean)
    return found


def _transfer(study: Study, ensemble: EnsembleRecord, runs: Sequence[Run], clean: Run) -> list[Transfer]:
    """Return the two matrices of one attack: over all samples, and over those that every member classifies right."""
    attack, targeted = runs[0].cell.attack, runs[0].cell.targeted
    if attack is None:
        raise ValueError("a clean cell has no transfer matrix")
    common = (clean.samples.member_prediction == clean.samples.y).all(0)
    members = [f"member-{i}" for i in range(ensemble.members)]
    hits = []  # (sources, targets, N): how likely right, or, targeted, classified as the target
    for run in runs:
        labels = run.samples.target if targeted else run.samples.y
        hits.append(np.vstack([run.samples.member_prediction == labels, run.samples.chance(labels)]))
    scored = np.stack(hits)
    metric = "success-rate" if targeted else "accuracy"
    rows = []
    for suffix, chosen in (("", np.ones_like(common)), ("-common-correct", common)):
        if not chosen.any():
            continue
        matrix = scored[:, :, chosen].mean(2)
        rows.append(
            Transfer(
                ensemble=ensemble.id,
                attack=attack.name,
                params={**runs[0].cell.params, "eps": runs[0].cell.eps, "norm": runs[0].cell.norm},
                targeted=targeted,
                metric=metric + suffix,
                sources=[*members, *(f"surrogate {other.id}" for other in study.surrogates), "ensemble"],
                targets=[*members, "ensemble"],
                matrix=[[float(v) for v in row] for row in matrix],
            )  # fmt: skip
        )
    return rows


def _mean(values: npt.NDArray[np.generic], rows: Bools) -> float | None:
    return float(values[rows].astype(np.float64).mean()) if rows.any() else None
