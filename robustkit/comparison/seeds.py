"""The same ensembles evaluated under several seeds, one evaluation each: differences over seeds, paired by seed."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass

import numpy as np

from robustkit.base.options import budget_text
from robustkit.comparison.comparing import Model
from robustkit.functional.paired import holm, paired_t
from robustkit.pipeline.outcomes import reference_of
from robustkit.reports import _format as f
from robustkit.reports._comparisons import LEVEL, p_text
from robustkit.reports._table import Cell, Table, cells


@dataclass(frozen=True)
class OverSeeds:
    """The mean difference of one number over seeds, its paired t interval, p-value and standard deviation."""

    budget: str
    number: str
    ensemble: str
    seeds: int
    difference: float
    low: float
    high: float
    deviation: float
    p: float

    @classmethod
    def of(cls, budget: str, number: str, ensemble: str, differences: Sequence[float]) -> OverSeeds:
        """Summarise one difference a seed."""
        low, high, p = paired_t(differences)
        mean, spread = float(np.mean(differences)), float(np.std(differences, ddof=1))
        return cls(budget, number, ensemble, len(differences), mean, low, high, spread, p)


def table(models: Sequence[Model]) -> Table | None:
    """Return the differences to the reference over seeds; None unless the evaluations are those of several seeds.

    Each then holds the same two or more ensembles, by id, and is of a seed of its own.
    """
    evaluations = list({id(model.evaluation): model.evaluation for model in models}.values())
    ids = [{e.id for e in one.study.ensembles} for one in evaluations]
    seeds = sorted({one.study.seed for one in evaluations})
    if len(evaluations) < 2 or len(seeds) < len(evaluations) or len(ids[0]) < 2 or any(own != ids[0] for own in ids):
        return None
    reference = reference_of(evaluations[0].study.ensembles).id
    found = list(_rows(models, [e.id for e in evaluations[0].study.ensembles if e.id != reference], reference))
    adjusted = holm([one.p for one in found])
    rows = [
        [*cells(one.budget, one.number, one.ensemble, _text(one), f"{100 * one.deviation:.1f}", p_text(one.p)),
         Cell(p_text(p) + ("*" if p < LEVEL else ""))]
        for one, p in zip(found, adjusted, strict=True)
    ]  # fmt: skip
    columns = ["eps", "number", "ensemble", "difference", "deviation", "p", "p, Holm"]
    note = (
        f"Mean over {len(seeds)} seeds ({', '.join(map(str, seeds))}) of the difference within each, in points, with "
        "the 95 % interval and p-value of the paired t test over seeds, and the standard deviation of the differences; "
        "* below .05, all rows in mind."
    )
    records = [{**asdict(one), "p_holm": p} for one, p in zip(found, adjusted, strict=True)]
    title = f"Over seeds, differences from {reference}"
    return Table("over-seeds", title, columns, "lllrrrr", rows, note, 3, records=records)


def _rows(models: Sequence[Model], ids: Sequence[str], reference: str) -> Iterator[OverSeeds]:
    by: dict[int, dict[str, Model]] = {}
    for model in models:
        by.setdefault(id(model.evaluation), {})[model.ensemble["id"]] = model
    budgets = sorted(set.intersection(*({*model.worst} for model in models)))
    for name in ids:
        pairs = [(own[name], own[reference]) for own in by.values()]
        clean = [a.ensemble["accuracy"] - b.ensemble["accuracy"] for a, b in pairs]
        yield OverSeeds.of(f.NONE, "clean accuracy", name, clean)
        for norm, eps in budgets:
            worst = [[m.worst[norm, eps]["robust_accuracy"] for m in pair] for pair in pairs]
            yield OverSeeds.of(budget_text(eps, norm), "worst case", name, [a - b for a, b in worst])


def _text(one: OverSeeds) -> str:
    return f"{f.points(one.difference)} [{f.points(one.low)}, {f.points(one.high)}]"
