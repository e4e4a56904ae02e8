"""Models that differ in the seed of their training, in one evaluation or in several: differences over seeds."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from robustkit.comparison.comparing import Model
from robustkit.pipeline.outcomes import adjust, pair, seed_comparison
from robustkit.records.schema import UnionCase, WorstCase
from robustkit.records.schema_comparison import Comparison, SeedComparison
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
    one, beside = pairs[0]
    together = [u["budgets"] for text, u in one.unions.items() if text in beside.unions]
    every = pair(name, one.outcomes, reference, beside.outcomes, together)
    found = []
    for row in (row for row in every if row["number"] != "attack"):
        numbers = [(_number(a, row), _number(b, row)) for a, b in pairs]
        differences = [a - b for a, b in numbers if a is not None and b is not None]
        if len(differences) == len(seeds):
            found.append(seed_comparison(row, dict(zip(seeds, differences, strict=True))))
    return found


def _number(model: Model, row: Comparison) -> float | None:
    """Return that number of a model which a row compares; None where it was not run."""
    if row["number"] == "clean":
        return model.ensemble["accuracy"]
    if row["number"] == "union":
        found: UnionCase | WorstCase | None = model.unions.get(row["norm"])
    else:
        found = model.worst.get((row["norm"], row["eps"] or 0.0))
    return found["robust_accuracy"] if found else None


def _group(model: Model) -> str:
    return model.ensemble.get("group") or model.ensemble["id"]


def _seed(model: Model) -> int:
    return model.ensemble.get("seed", model.evaluation.study.seed)
