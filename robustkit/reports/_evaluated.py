"""What the functions of Python return: ``results.json`` as a mapping, with the questions that are asked of it most.

Never imports torch.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, cast, overload

from robustkit.base import options
from robustkit.base.errors import UserError
from robustkit.records.schema import DatasetResult as Dataset
from robustkit.records.schema import EnsembleResult as Ensemble
from robustkit.records.schema import (
    Escalation,
    Evaluation,
    MinimumNorm,
    Results,
    Transfer,
    WorstCase,
)
from robustkit.reports import json_file
from robustkit.reports._checks import headline_budget
from robustkit.reports._frame import numbers
from robustkit.reports._labels import budget, budget_text

if TYPE_CHECKING:
    import pandas

CLOSE = 1e-6  # two eps that differ by less are the same, however they are written


class EvaluationResults(dict[str, Any]):
    """``results.json`` as a mapping, whose keys and types are those of :class:`robustkit.records.schema.Results`."""

    if TYPE_CHECKING:

        @overload
        def __getitem__(self, key: Literal["worst_case"], /) -> list[WorstCase]: ...
        @overload
        def __getitem__(self, key: Literal["evaluations"], /) -> list[Evaluation]: ...
        @overload
        def __getitem__(self, key: Literal["ensembles", "surrogates"], /) -> list[Ensemble]: ...
        @overload
        def __getitem__(self, key: Literal["dataset"], /) -> Dataset: ...
        @overload
        def __getitem__(self, key: Literal["transfer"], /) -> list[Transfer]: ...
        @overload
        def __getitem__(self, key: Literal["minimum_norm"], /) -> list[MinimumNorm]: ...
        @overload
        def __getitem__(self, key: Literal["escalation"], /) -> list[Escalation]: ...
        @overload
        def __getitem__(self, key: str, /) -> Any: ...
        def __getitem__(self, key: str, /) -> Any: ...

    def worst_case(self, eps: str | float | None = None, norm: str | None = None) -> dict[str, WorstCase]:
        """Return the worst case over all attacks of every ensemble at a budget, by the ensemble's id.

        Parameters
        ----------
        eps : str or float or None
            ``"8/255"`` or ``0.1``, in the norm's unit; None: the budget that the report quotes.
        norm : str or None
            ``"linf"``, ``"l2"``, ...; None: the only one at that eps, linf where there are several.

        Raises
        ------
        UserError
            If nothing ran at that budget; the sentence names those there are.
        """
        there = sorted({budget(w) for w in self["worst_case"]}, key=lambda b: (b[1], b[0]))
        if eps is None:
            at = headline_budget(cast(Results, self))
        else:
            value = options.number(eps, "eps")
            near = [b for b in there if abs(b[0] - value) <= CLOSE * max(1.0, value) and norm in (None, b[1])]
            at = min(near, key=lambda b: b[1] != "linf", default=None)
        if at is None or at not in there:
            known = ", ".join(budget_text(*b) for b in there) or "none, for nothing was attacked"
            asked = "" if eps is None else f" {eps}" + (f" {norm}" if norm else "")
            raise UserError(f"there is no worst case at eps{asked}; there is: {known}.")
        return {w["ensemble"]: w for w in self["worst_case"] if budget(w) == at}

    def to_frame(self) -> pandas.DataFrame:
        """Return the numbers as a pandas DataFrame, one a row; the columns are those of :data:`_frame.COLUMNS`.

        Raises
        ------
        UserError
            If pandas is not installed.
        """
        try:
            import pandas
        except ImportError:
            raise UserError(
                "to_frame needs pandas, which is not installed; run `pip install pandas`, or read the CSV tables that "
                "--format csv writes."
            ) from None
        rows, columns = numbers(cast(Results, self))
        return pandas.DataFrame(rows, columns=columns)


def load_results(path: str | Path) -> EvaluationResults:
    """Read the ``results.json`` of an evaluation, given the file or the folder that it lies in.

    Raises
    ------
    UserError
        If it is missing, is no ``results.json``, or was written by a newer robustkit.
    """
    return EvaluationResults(json_file.load_results(Path(path)))
