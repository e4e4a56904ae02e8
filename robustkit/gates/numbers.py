"""Every number of ``results.json`` that something can be required of, with the names it goes by."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from robustkit.base.budgets import union_text
from robustkit.base.options import budget_text
from robustkit.functional.stats import wilson_of
from robustkit.records.schema import Check, Numbers, Verdict
from robustkit.reports import _format as f
from robustkit.reports._labels import labeller
from robustkit.study.requirements import CLEAN, NO_EPS, UNION, WORST, Requirement


@dataclass(frozen=True)
class Number:
    """One accuracy; ``names`` are what it is called by, ``verdict`` is None of clean ones, as are ``eps`` and norm.

    Of a union of norms ``eps`` is None, and ``norm`` says its budgets in words.
    ``group`` is what ensembles of a study over seeds are called together, else empty.
    """

    ensemble: str
    names: tuple[str, ...]
    eps: float | None
    norm: str
    value: float
    ci95: Sequence[float]
    verdict: Verdict | None
    checks: Sequence[Check]
    group: str = ""

    @property
    def what(self) -> str:
        """What it is, in words: ``worst case at 8/255``."""
        name = {WORST: "worst case", CLEAN: "clean accuracy"}.get(self.names[0], self.names[-1])
        if self.names == (UNION,):
            return f"union of {self.norm}"
        return name if self.eps is None else f"{name} at {budget_text(self.eps, self.norm)}"

    def __str__(self) -> str:
        shown = f"{self.ensemble}: {self.what} is {100 * self.value:.4g} % {f.interval(self.ci95)}"
        return f"{shown}, {self.verdict}" if self.verdict else shown


def numbers_of(results: Numbers) -> list[Number]:
    """Return the worst cases, then clean accuracies, then the number of each attack."""
    n, label = results["dataset"]["n"], labeller(results)
    groups = {e["id"]: e.get("group", "") for e in results["ensembles"]}
    found = [
        Number(w["ensemble"], (WORST,), w["eps"], w["norm"], w["robust_accuracy"], w["ci95"], w["verdict"], w["checks"])
        for w in results["worst_case"]
    ]
    found += [
        Number(
            u["ensemble"], (UNION,), None, union_text(u["budgets"]), u["robust_accuracy"], u["ci95"], u["verdict"], ()
        )
        for u in results.get("union", ())
    ]
    found += [
        Number(e["id"], (CLEAN,), None, "", e["accuracy"], wilson_of(e["accuracy"], n), None, ())
        for e in results["ensembles"]
    ]
    found += [
        Number(
            e["ensemble"], tuple(dict.fromkeys((e["attack"], label(e)))), e["eps"], e["norm"], e["robust_accuracy"],
            e["ci95"], e["verdict"], e["checks"],
        )
        for e in results["evaluations"]
    ]  # fmt: skip
    return [replace(number, group=groups.get(number.ensemble, "")) for number in found]


def meant(one: Requirement, numbers: Sequence[Number]) -> list[Number]:
    """Return the numbers that a requirement is about; a UserError names those there are where it is about none."""
    names = dict.fromkeys(name for number in numbers for name in number.names)
    ids = (id for number in numbers for id in (number.ensemble, number.group) if id)
    ensemble, metric = one.about(names, list(dict.fromkeys(ids)))
    found = [n for n in numbers if metric in n.names and ensemble in ("", n.ensemble, n.group)]
    if metric in NO_EPS:
        return found
    budgets = one.at((number.norm, number.eps) for number in found if number.eps is not None)
    return [number for number in found if (number.norm, number.eps) in budgets]
