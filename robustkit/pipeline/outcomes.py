"""How likely an ensemble is right on each sample: clean, under each run, and at worst. Never imports torch."""

from __future__ import annotations

import statistics
from collections.abc import Iterator, Mapping, Sequence

import numpy as np

from robustkit.base.budgets import union_text
from robustkit.functional.paired import compare, exactly, holm, paired_t
from robustkit.records.cells import EnsembleRecord, Run, canonical
from robustkit.records.outcomes import Answers, Doubles, SampleOutcomes
from robustkit.records.samples import Samples
from robustkit.records.schema_comparison import Comparison, SeedComparison
from robustkit.trust import Scored

Budgets = Mapping[str, float]  # by norm


def samples_of(
    ensemble: EnsembleRecord, clean: Run, scored: Sequence[Scored], answers: bool = False
) -> SampleOutcomes:  # fmt: skip
    """Return what the clean run and the white-box runs of one ensemble left standing, and its answers if asked for."""
    samples = clean.samples
    said = [_answers(run.samples) for run in (clean, *(one.run for one in scored))] if answers else []
    return SampleOutcomes(
        ensemble.id, samples.ids, samples.y, samples.prediction, samples.correctness,
        [one.correctness for one in scored], said, [(one.run.cell, one.eps) for one in scored],
    )  # fmt: skip


def _answers(samples: Samples) -> Answers:
    smallest = np.min_scalar_type(max(0, samples.fused.shape[1] - 1))
    return Answers(samples.prediction.astype(smallest), samples.member_prediction.astype(smallest))


def plain_of(ensembles: Sequence[EnsembleRecord]) -> EnsembleRecord:
    """Return what others are compared with: the plain ensemble, else the first."""
    return next((one for one in ensembles if one.defense == "baseline"), ensembles[0])


def references(ensembles: Sequence[EnsembleRecord]) -> dict[str, str]:
    """Return with which ensemble each of the others is compared, by id: the plain one, else the first.

    In a study over seeds it is that one of the same seed; what has no such partner is left out.
    """
    first = plain_of(ensembles)
    same = [one for one in ensembles if one is first or (first.group and one.group == first.group)]
    by_seed = {one.seed: one.id for one in same}
    taken = {one.id for one in same}
    return {one.id: by_seed[one.seed] for one in ensembles if one.id not in taken and one.seed in by_seed}


def comparisons(
    ensembles: Sequence[EnsembleRecord], outcomes: Mapping[str, SampleOutcomes], unions: Sequence[Budgets] = ()
) -> list[Comparison]:
    """Compare every ensemble with its reference: clean, at worst at each budget, in all norms, under each attack.

    Parameters
    ----------
    outcomes : mapping of str to SampleOutcomes
        By the ensembles' ids.
    unions : sequence of mapping of str to float
        Budgets by norm that go together.
    """
    pairs = references(ensembles) if ensembles else {}
    found = [
        row for id, reference in pairs.items() for row in pair(id, outcomes[id], reference, outcomes[reference], unions)
    ]
    for table in (True, False):
        adjust([row for row in found if (row["number"] == "attack") is table])
    return found


def adjust(rows: Sequence[Comparison] | Sequence[SeedComparison]) -> None:
    """Note in each row of a table its p-value with all of the table in mind."""
    for row, p in zip(rows, holm([row["p"] for row in rows]), strict=True):
        row["p_holm"] = p


def pair(
    id: str, own: SampleOutcomes, reference: str, other: SampleOutcomes, unions: Sequence[Budgets] = ()
) -> Iterator[Comparison]:
    """Yield the comparisons of two ensembles: clean, at worst, in all norms, and under each attack that both met."""
    yield compared(id, own.clean, reference, other.clean)
    for (norm, eps), correct in own.worst.items():
        if (norm, eps) in other.worst:
            yield compared(id, correct, reference, other.worst[norm, eps], "worst_case", eps, norm)
    for budgets in unions:
        right, theirs = own.united(budgets), other.united(budgets)
        if right is not None and theirs is not None:
            yield compared(id, right, reference, theirs, "union", None, union_text(budgets))
    for asked, at in own.by_question.items():
        if asked in other.by_question:
            cell, eps = own.budgets[at]
            met = other.attacked[other.by_question[asked]]
            row = compared(id, own.attacked[at], reference, met, "attack", eps, cell.norm)
            row |= {"attack": cell.name, "backend": cell.backend, "params": cell.params, "targeted": cell.targeted}
            yield row


def compared(
    id: str, own: Doubles, reference: str, other: Doubles, number: str = "clean", eps: float | None = None,
    norm: str = "",
) -> Comparison:  # fmt: skip
    """Compare one number of two ensembles, given how likely each is right on every sample, (N,) and (N,)."""
    found = compare(own, other)
    return Comparison(
        ensemble=id, reference=reference, number=number,  # type: ignore[typeddict-item]
        attack="", backend="", params={}, targeted=False, eps=eps, norm=norm, n=found.n,
        accuracy=float(own.mean()), reference_accuracy=float(other.mean()), difference=found.difference,
        ci95=[found.low, found.high], only_ensemble=found.only_first, only_reference=found.only_second,
        p=found.p, p_holm=found.p, needed=found.needed,
    )  # fmt: skip


def over_seeds(ensembles: Sequence[EnsembleRecord], rows: Sequence[Comparison]) -> list[SeedComparison]:
    """Return the differences of a study over seeds, each over two or more seeds; nothing where there are none."""
    groups = {one.id: (one.group, one.seed) for one in ensembles}
    found: dict[str, tuple[Comparison, dict[int, float]]] = {}
    for row in rows:
        (group, seed), (reference, _) = groups[row["ensemble"]], groups[row["reference"]]
        if group and seed is not None:
            about = {key: row[key] for key in ("number", "attack", "backend", "params", "targeted", "eps", "norm")}
            key = canonical({**about, "ensemble": group, "reference": reference})
            named = Comparison(**{**row, "ensemble": group, "reference": reference})
            found.setdefault(key, (named, {}))[1][seed] = row["difference"]
    made = [seed_comparison(row, values) for row, values in found.values() if len(values) > 1]
    for table in (True, False):
        adjust([row for row in made if (row["number"] == "attack") is table])
    return made


def seed_comparison(row: Comparison, values: Mapping[int, float]) -> SeedComparison:
    """Return one difference over seeds, of what a row compares, given the difference with each seed."""
    seeds = sorted(values)
    differences = [values[seed] for seed in seeds]
    low, high, p = paired_t(differences, row["n"])
    return SeedComparison(
        ensemble=row["ensemble"], reference=row["reference"], number=row["number"], attack=row["attack"],
        backend=row["backend"], params=row["params"], targeted=row["targeted"], eps=row["eps"], norm=row["norm"],
        seeds=seeds, values=differences, difference=exactly(statistics.fmean(differences)),
        std=statistics.stdev(differences), ci95=[low, high], p=p, p_holm=p,
    )  # fmt: skip
