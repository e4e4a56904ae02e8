"""Models that differ in the seed of their training, in one evaluation or in several: differences over seeds."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from robustkit.comparison.comparing import Model
from robustkit.pipeline.outcomes import adjust, compared, seed_comparison
from robustkit.records.schema_comparison import SeedComparison
from robustkit.reports._comparisons import seeds_table
from robustkit.reports._labels import Run
from robustkit.reports._table import Table


def table(models: Sequence[Model], label: Callable[[Run], str]) -> Table:
    """Return the differences to the first model's like over seeds, paired by seed; without rows where there are none.

    Models of one group, or else of one id, are the same but for the seed: that of their training, or else that of their
    evaluation. Each has to be there once.
    """
    by: dict[str, dict[int, Model]] = {}
    for model in models:
        seeds = by.setdefault(_group(model), {})
        if seeds.setdefault(_seed(model), model) is not model:  # twice the same, as of two versions
            return seeds_table([], label)
    first = by.pop(_group(models[0]))
    found = [row for group, own in by.items() for row in _rows(group, own, _group(models[0]), first)]
    adjust(found)
    return seeds_table(found, label)


def _rows(name: str, own: dict[int, Model], reference: str, first: dict[int, Model]) -> list[SeedComparison]:
    seeds = sorted(own.keys() & first.keys())
    if len(seeds) < 2:
        return []
    pairs = [(own[seed], first[seed]) for seed in seeds]
    rows = [
        compared(name, pairs[0][0].outcomes.clean, reference, pairs[0][1].outcomes.clean),
        *(
            compared(name, right, reference, pairs[0][1].outcomes.worst[at], "worst_case", at[1], at[0])
            for at, right in pairs[0][0].outcomes.worst.items()
            if all(at in model.outcomes.worst for both in pairs for model in both)
        ),
    ]
    return [
        seed_comparison(row, dict(zip(seeds, _differences(row["norm"], row["eps"], pairs), strict=True)))
        for row in rows
    ]


def _differences(norm: str, eps: float | None, pairs: Sequence[tuple[Model, Model]]) -> list[float]:
    if eps is None:
        return [a.ensemble["accuracy"] - b.ensemble["accuracy"] for a, b in pairs]
    return [a.worst[norm, eps]["robust_accuracy"] - b.worst[norm, eps]["robust_accuracy"] for a, b in pairs]


def _group(model: Model) -> str:
    return model.ensemble.get("group") or model.ensemble["id"]


def _seed(model: Model) -> int:
    return model.ensemble.get("seed", model.evaluation.study.seed)
