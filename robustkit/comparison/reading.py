"""A stored evaluation: its numbers and what each ensemble got right, checked to belong together."""

from __future__ import annotations

import functools
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from robustkit.base.errors import UserError
from robustkit.pipeline.stored import outcomes_of, read_study
from robustkit.records.outcomes import SampleOutcomes
from robustkit.records.schema import Numbers
from robustkit.records.store import open_runs
from robustkit.reports.json_file import load_numbers
from robustkit.study.plan import Study

_CLOSE = 1e-6


@dataclass(frozen=True)
class StoredEvaluation:
    """One evaluation: what it is called here, its folder, what ``results.json`` says, and the study behind it."""

    name: str
    folder: Path
    numbers: Numbers
    study: Study

    @classmethod
    def read(cls, path: Path | str, name: str = "") -> StoredEvaluation:
        """Read an --out folder, its runs or its results.json; a :class:`UserError` says what it lacks."""
        path = Path(path)
        store = open_runs(path.parent if path.name == "results.json" else path)
        folder = store.folder.parent
        return cls(name or str(path), folder, load_numbers(folder), read_study(store))

    @functools.cached_property
    def outcomes(self) -> dict[str, SampleOutcomes]:
        """What each ensemble got right on each sample, by id.

        Raises
        ------
        UserError
            If the runs do not give the worst cases, or who withstands all norms, in ``results.json``.
        RunError
            If runs are missing.
        """
        found = outcomes_of(self.study, open_runs(self.folder))
        worst = [({w["norm"]: w["eps"]}, w, "worst case") for w in self.numbers["worst_case"]]
        united = [(u["budgets"], u, "union of norms") for u in self.numbers.get("union", ())]
        for budgets, number, name in [*worst, *united]:
            own = found.get(number["ensemble"])
            correct = own.united(budgets) if own else None
            if correct is None or abs(float(correct.mean()) - number["robust_accuracy"]) > _CLOSE:
                # Cause: the runs are those of a later or an interrupted evaluation, or were copied without the other.
                raise UserError(
                    f"the runs of '{self.folder}' do not give the {name} of {number['ensemble']} in its results.json; "
                    f"run `robustkit report {self.folder}`, or the evaluation again."
                )
        return found


def read_all(paths: Sequence[Path | str]) -> list[StoredEvaluation]:
    """Read several evaluations under names that tell them apart; a :class:`UserError` if one is given twice."""
    folders = [open_runs(Path(p).parent if Path(p).name == "results.json" else p).folder.parent for p in paths]
    places = [folder.resolve() for folder in folders]
    for at, place in enumerate(places):
        if place in places[:at]:
            raise UserError(f"'{paths[at]}' is given twice; leave one of them out.")
    return [StoredEvaluation.read(f, n) for f, n in zip(folders, _names(places), strict=True)]


def _names(places: Sequence[Path]) -> list[str]:
    """Return as little of each path's end as tells it from the others."""
    for depth in range(1, max(len(place.parts) for place in places) + 1):
        names = ["/".join(place.parts[-depth:]) for place in places]
        if len(set(names)) == len(names):
            return names
    return [str(place) for place in places]
