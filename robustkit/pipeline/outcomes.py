"""How likely an ensemble is right on each sample: clean, under each run, and at worst. Never imports torch."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from robustkit.functional.paired import compare, holm
from robustkit.records.cells import EnsembleRecord, Run, canonical
from robustkit.records.schema_comparison import Comparison
from robustkit.trust import Scored

Doubles = npt.NDArray[np.float64]
Question = tuple[str, str, str, float, str, bool]  # attack, backend, norm, eps, settings and whether it aims at a label


@dataclass(frozen=True)
class Outcomes:
    """One ensemble's per-sample correctness, each (N,): 1 or 0, or a chance where its answers are drawn.

    Attributes
    ----------
    ids, labels : (N,) int
        Of the samples, in the order of the rest.
    worst : mapping of (norm, eps) to (N,) float
        The least over all white-box runs of that norm at this or a smaller budget.
    runs : mapping of Question to (Scored, (N,) float)
        Each white-box run, by what was asked.
    """

    ids: npt.NDArray[np.int64]
    labels: npt.NDArray[np.int64]
    clean: Doubles
    worst: Mapping[tuple[str, float], Doubles]
    runs: Mapping[Question, tuple[Scored, Doubles]]

    @classmethod
    def of(cls, clean: Run, scored: Iterable[Scored]) -> Outcomes:
        """Put together what the clean run and the white-box runs of one ensemble left standing."""
        samples, every = clean.samples, list(scored)
        budgets = sorted({(one.run.cell.norm, one.eps) for one in every})
        worst = {
            (norm, eps): np.minimum.reduce(
                [one.correctness for one in every if one.run.cell.norm == norm and one.eps <= eps]
            )
            for norm, eps in budgets
        }
        runs: dict[Question, tuple[Scored, Doubles]] = {}
        for one in every:
            runs.setdefault(question(one), (one, one.correctness))
        return cls(samples.ids, samples.y, samples.correctness, worst, runs)


def question(one: Scored) -> Question:
    """Return what tells a run from the others of its ensemble, and is the same for another ensemble."""
    cell = one.run.cell
    return one.name, cell.backend, cell.norm, one.eps, canonical(cell.params), cell.targeted


def reference_of(ensembles: Sequence[EnsembleRecord], seed: int | None = None) -> EnsembleRecord:
    """Return what the others are compared with: the plain ensemble, of the same training seed if any, else the first.

    Parameters
    ----------
    seed : int or None
        Of the ensemble that is compared, in a study over seeds.
    """
    plain = [one for one in ensembles if one.defense == "baseline"]
    same = [one for one in plain or ensembles if one.seed == seed]
    return (same or plain or ensembles)[0]


def comparisons(ensembles: Sequence[EnsembleRecord], outcomes: Mapping[str, Outcomes]) -> list[Comparison]:
    """Compare every ensemble with the reference: clean, at worst at each budget, and under each attack both met.

    Parameters
    ----------
    outcomes : mapping of str to Outcomes
        By the ensembles' ids.
    """
    if len(ensembles) < 2:
        return []
    pairs = [(one.id, reference_of(ensembles, one.seed).id) for one in ensembles]
    found = [
        row for own, other in pairs if own != other for row in pair(own, outcomes[own], other, outcomes[other])
    ]  # fmt: skip
    for table in (True, False):
        adjust([row for row in found if (row["number"] == "attack") is table])
    return found


def adjust(rows: Sequence[Comparison]) -> None:
    """Note in each row of a table its p-value with all of the table in mind."""
    for row, p in zip(rows, holm([row["p"] for row in rows]), strict=True):
        row["p_holm"] = p


def pair(id: str, own: Outcomes, reference: str, other: Outcomes) -> Iterator[Comparison]:
    """Yield the comparisons of two ensembles: clean, at worst, and under each attack that both met."""
    yield compared(id, own.clean, reference, other.clean)
    for (norm, eps), correct in own.worst.items():
        if (norm, eps) in other.worst:
            yield compared(id, correct, reference, other.worst[norm, eps], "worst_case", eps, norm)
    for asked, (scored, correct) in own.runs.items():
        if asked in other.runs:
            row = compared(id, correct, reference, other.runs[asked][1], "attack", scored.eps, scored.run.cell.norm)
            cell = scored.run.cell
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
