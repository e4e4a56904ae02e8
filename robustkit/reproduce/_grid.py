"""Tables of accuracy under a published grid of attacks."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from robustkit.attacks import attack
from robustkit.base import options
from robustkit.base.errors import RunError
from robustkit.functional.stats import wilson_of
from robustkit.records.schema import Evaluation, Results
from robustkit.reports._format import slug
from robustkit.reproduce._lab import Lab
from robustkit.reproduce._parts import Column, Comparison, Images
from robustkit.study import presets

Key = tuple[str, float]  # an attack, and its eps, gamma or c
Numbers = Mapping[Key, Sequence[float]]  # a number for each column
TITLES = {"cw": "C&W"}
VARIED = {"gamma": "gamma", "initial_c": "c"}  # what tells the rows of an attack without eps apart

# The ADP paper attacks all test images; its public code attacks 1,000 with C&W and EAD and 100 with JSMA.
GRADIENT = ("fgsm,bim,pgd,mim", Images(10_000, 300))
OPTIMISED = ("cw,ead", Images(1000, 30, stated=False))
SALIENCY = ("jsma", Images(100, 20, stated=False))
Group = tuple[str, Images]


@dataclass(frozen=True)
class Variant:
    """Settings of attacks that are on purpose not the paper's, and what their rows are called for it."""

    name: str = ""
    settings: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)


AS_IS = Variant()
# The ADP paper's code bars the features at 1 and stands still at those at 0: its numbers are beside those without that.
UNSTUCK = Variant("not stuck", {"jsma": {"movable": "room"}})


def compare(
    lab: Lab, preset: str, columns: Sequence[Column], paper: Numbers, groups: Sequence[Group], variant: Variant = AS_IS
) -> list[Comparison]:
    """Attack the ensembles with a preset's grid, group by group, and return its accuracies beside the paper's.

    A variant attacks with settings of its own, for which the paper has no numbers.
    """
    found = []
    for attacks, images in groups:
        part = attacks.replace(",", "-") + (f"-{slug(variant.name)}" if variant.name else "")
        results = lab.evaluate(
            part, columns, images, preset=f"{preset}:{attacks}", suites="attacks", settings=variant.settings
        )
        for name, given, key in rows(presets.grid(f"{preset}:{lab.stands_for}:{attacks}", lab.stands_for)):
            wanted = _wanted(lab, name, given)
            numbers = (None,) * len(columns) if variant.name else paper[key]
            for column, published in zip(columns, numbers, strict=True):
                e = _evaluation(results, lab.name(column), name, given.get("eps") and key[1], wanted)
                found.append(
                    Comparison(
                        row_text(name, key[1], given) + (f", {variant.name}" if variant.name else ""),
                        column.name,
                        100 * e["robust_accuracy"],
                        published,
                        ci95=(100 * e["ci95"][0], 100 * e["ci95"][1]),
                        verdict=e["verdict"],
                    )  # fmt: skip
                )
    return found


def accuracies(
    lab: Lab, results: Results, columns: Sequence[Column], row: str, paper: Sequence[float]
) -> list[Comparison]:
    """Return the clean accuracies of the ensembles beside the paper's."""
    by, n = {e["id"]: e["accuracy"] for e in results["ensembles"]}, results["dataset"]["n"]
    return [
        Comparison(row, column.name, 100 * by[lab.name(column)], number, ci95=percent_interval(by[lab.name(column)], n))
        for column, number in zip(columns, paper, strict=True)
    ]


def percent_interval(share: float, n: int) -> tuple[float, float]:
    """Return the Wilson 95 % interval of a share of n samples, in percent."""
    low, high = wilson_of(share, n)
    return 100 * low, 100 * high


def rows(grid: presets.Grid) -> Iterator[tuple[str, Mapping[str, Any], Key]]:
    """Yield the attack, its parameters and its key for each row of a grid."""
    for name, given in grid:
        if "eps" in given:
            for eps in given["eps"]:
                yield name, given, (name, eps)
        else:
            yield name, given, (name, next(given[parameter] for parameter in VARIED if parameter in given))


def row_text(name: str, value: float, given: Mapping[str, Any]) -> str:
    """Return what a row is called: ``PGD eps=0.1``, ``C&W c=10``."""
    what = "eps" if "eps" in given else next(VARIED[parameter] for parameter in VARIED if parameter in given)
    return f"{TITLES.get(name, name.upper())} {what}={value:g}"


def _wanted(lab: Lab, name: str, given: Mapping[str, Any]) -> dict[str, Any]:
    """Return the parameters that tell a row's runs from the attack's others, as ``--set`` left them."""
    asked = lab.ask.settings.get(name, {})
    entry = attack.entry(name)
    return {
        parameter: options.coerce(entry, parameter, asked.get(parameter, given[parameter]))
        for parameter in VARIED
        if parameter in given
    }


def _evaluation(results: Results, ensemble: str, name: str, eps: float | None, params: Mapping[str, Any]) -> Evaluation:
    for e in results["evaluations"]:
        same = e["ensemble"] == ensemble and e["attack"] == name and (eps is None or e["eps"] == eps)
        if same and all(e["params"].get(key) == value for key, value in params.items()):
            return e
    raise RunError(
        f"the evaluation of '{ensemble}' has no {name} at {eps or dict(params)}; run the same command again."
    )
