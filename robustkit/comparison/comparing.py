"""Models of several stored evaluations, beside the first of them, on the same images."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from robustkit.base.budgets import union_text
from robustkit.base.errors import UserError
from robustkit.base.options import budget_text
from robustkit.comparison.reading import StoredEvaluation
from robustkit.pipeline.outcomes import adjust, compared, pair, plain_of
from robustkit.records.outcomes import SampleOutcomes
from robustkit.records.schema import EnsembleResult, UnionCase, WorstCase
from robustkit.records.schema_comparison import Comparison


@dataclass(frozen=True)
class Model:
    """One ensemble of one evaluation; ``name`` tells it from every other that is compared."""

    name: str
    evaluation: StoredEvaluation
    ensemble: EnsembleResult

    @property
    def outcomes(self) -> SampleOutcomes:
        """What it got right on each sample."""
        return self.evaluation.outcomes[self.ensemble["id"]]

    @property
    def worst(self) -> dict[tuple[str, float], WorstCase]:
        """Its worst cases by (norm, eps)."""
        every = self.evaluation.numbers["worst_case"]
        return {(w["norm"], w["eps"]): w for w in every if w["ensemble"] == self.ensemble["id"]}

    @property
    def unions(self) -> dict[str, UnionCase]:
        """Who withstands all of its norms, by the budgets in words."""
        every = self.evaluation.numbers.get("union", ())
        return {union_text(u["budgets"]): u for u in every if u["ensemble"] == self.ensemble["id"]}


def models_of(evaluations: Sequence[StoredEvaluation]) -> list[Model]:
    """Return every ensemble, the one that the others are compared with first.

    It is the first evaluation's plain ensemble, or its first. A model is called by its id, or, where ids repeat, by its
    evaluation and id.
    """
    ids = [e["id"] for evaluation in evaluations for e in evaluation.numbers["ensembles"]]
    first = plain_of(evaluations[0].study.ensembles).id
    found = []
    for at, evaluation in enumerate(evaluations):
        own = evaluation.numbers["ensembles"]
        for e in sorted(own, key=lambda e: at > 0 or e["id"] != first):
            alone = evaluation.name if len(own) == 1 else f"{evaluation.name}: {e['id']}"
            found.append(Model(e["id"] if ids.count(e["id"]) == 1 else alone, evaluation, e))
    return found


def check(evaluations: Sequence[StoredEvaluation], models: Sequence[Model]) -> None:
    """Refuse evaluations that cannot be compared (a :class:`UserError`): other classes or images, no common budget."""
    first = evaluations[0]
    if len(models) < 2:
        raise UserError(f"'{first.name}' holds one model; give the folders of two or more evaluations.")
    data = first.numbers["dataset"]
    for other in evaluations[1:]:
        theirs = other.numbers["dataset"]
        if theirs["classes"] != data["classes"]:
            raise UserError(
                f"'{first.name}' and '{other.name}' are of other classes ({len(data['classes'])} and "
                f"{len(theirs['classes'])}); compare evaluations of one dataset."
            )
        if theirs["sha256"] != data["sha256"]:
            raise UserError(
                f"'{first.name}' ({_data(first)}) and '{other.name}' ({_data(other)}) are of other test images; "
                "evaluate on the same ones: the same --dataset, --n and --image-size."
            )
    for model in models[1:]:
        if (model.worst or models[0].worst) and not model.worst.keys() & models[0].worst.keys():
            raise UserError(
                f"'{models[0].name}' (eps {_budgets(models[0])}) and '{model.name}' (eps {_budgets(model)}) have no "
                "eps of one norm in common; evaluate both with the same --eps and --norm."
            )


def _data(evaluation: StoredEvaluation) -> str:
    data = evaluation.numbers["dataset"]
    return f"{data['name']}, {data['split']}, n = {data['n']}, {data['sha256'][:12]}"


def _budgets(model: Model) -> str:
    return ", ".join(budget_text(eps, norm) for norm, eps in sorted(model.worst)) or "none: nothing was attacked"


def rows(models: Sequence[Model]) -> list[Comparison]:
    """Compare every model with the first: clean, at worst, in all norms, at worst of the attacks of both, by attack.

    The last but one is said only where the two met other attacks. Holm's adjustment is over all but the single
    attacks, and over these.
    """
    first = models[0]
    found: list[Comparison] = []
    for model in models[1:]:
        own, other = model.outcomes, first.outcomes
        if not (np.array_equal(own.labels, other.labels) and np.array_equal(own.ids, other.ids)):
            raise UserError(f"'{first.name}' and '{model.name}' list other samples; evaluate both again.")
        together = [u["budgets"] for text, u in model.unions.items() if text in first.unions]
        found += pair(model.name, own, first.name, other, together)
        found += _common(model.name, own, first.name, other)
    for table in (True, False):
        adjust([row for row in found if (row["number"] == "attack") is table])
    return found


def _common(name: str, own: SampleOutcomes, reference: str, other: SampleOutcomes) -> Iterator[Comparison]:
    if own.by_question.keys() == other.by_question.keys():
        return
    both = own.by_question.keys() & other.by_question.keys()
    for norm, eps in sorted(own.worst.keys() & other.worst.keys()):
        asked = [q for q in both if q[2] == norm and q[3] <= eps]
        if any(q[3] == eps for q in asked):
            least = [np.minimum.reduce([side.attacked[side.by_question[q]] for q in asked]) for side in (own, other)]
            yield compared(name, least[0], reference, least[1], "common", eps, norm)
