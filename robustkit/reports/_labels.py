"""What a run is called in a report: the shortest name that tells it from every other run."""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping
from typing import Any, TypeVar

from robustkit.base.options import budget_text as budget_text
from robustkit.records.schema import EnsembleResult, Numbers, Results, Transfer
from robustkit.reports._format import plain

Run = Mapping[str, Any]  # an Evaluation or a Transfer
OfEnsemble = TypeVar("OfEnsemble", bound=Mapping[str, Any])  # a record with the id of its ensemble
_SHOWN_ELSEWHERE = {"eps", "norm", "steps", "targeted"}
METRICS = {"accuracy": "accuracy (low = transfers)", "success-rate": "success rate (high = transfers)"}


def budget(run: Run) -> tuple[float, str]:
    """Return eps and norm of an Evaluation, a WorstCase or a Transfer (which has them in its params)."""
    source = run if "eps" in run else run["params"]
    return float(source.get("eps", 0.0)), str(source.get("norm", "linf"))


def labeller(results: Numbers) -> Callable[[Run], str]:
    """Return the function that names the attack of a run: ``pgd-10``, ``pgd-100``, ``fgsm, targeted``.

    Steps are always named, as papers do. Another setting is named only where two runs of one ensemble at one budget
    would otherwise share a name, and there only if it is not that of the first run.
    """
    transfer: Any = results.get("transfer", ())  # which no more than the numbers of a file lack
    runs: list[Run] = [*results["evaluations"], *transfer]

    def short(run: Run) -> str:
        own = run["params"].get("steps")
        return str(run["attack"]) + ("" if own is None else f"-{own}")

    telling = _telling(runs, short)

    def label(run: Run) -> str:
        settings = _settings(run)
        first = telling.get((short(run), run["targeted"]), {})
        extras = [f"{key}={plain(settings.get(key))}" for key in sorted(first) if settings.get(key) != first[key]]
        return short(run) + (f" [{', '.join(extras)}]" if extras else "") + (", targeted" if run["targeted"] else "")

    return label


def _settings(run: Run) -> dict[str, Any]:
    settings = {key: value for key, value in run["params"].items() if key not in _SHOWN_ELSEWHERE}
    return settings | ({"backend": run["backend"]} if "backend" in run else {})


def _telling(runs: list[Run], short: Callable[[Run], str]) -> dict[tuple[str, bool], dict[str, Any]]:
    """Return, per name that is not unique, the settings that tell its runs apart, as they are in the first run."""
    groups = defaultdict[tuple[Any, ...], list[dict[str, Any]]](list)
    for run in runs:
        same = (short(run), run["targeted"], run["ensemble"], *budget(run), run.get("metric"))
        groups[same].append(_settings(run))
    telling = defaultdict[tuple[str, bool], dict[str, Any]](dict)
    for (name, targeted, *_), settings in groups.items():
        for key in {key for one in settings for key in one}:
            if len({json.dumps(one.get(key), sort_keys=True) for one in settings}) > 1:
                telling[name, targeted].setdefault(key, settings[0].get(key))
    return telling


def metric_text(metric: str) -> str:
    """Return what a transfer metric means: which direction is transfer, and which samples count."""
    common = metric.endswith("-common-correct")
    name = metric.removesuffix("-common-correct")
    return METRICS.get(name, name) + (", samples that every member classifies correctly" if common else "")


def panel_text(run: Transfer, label: Callable[[Run], str]) -> str:
    """Return the title that the transfer matrices of one attack share across ensembles."""
    return f"{label(run)} at {budget_text(*budget(run))}: {metric_text(run['metric'])}"


def baseline_of(results: Numbers) -> str | None:
    """Return the id of the plain ensemble that the others are compared with, if there is one."""
    return next((e["id"] for e in results["ensembles"] if e["defense"] == "baseline"), None)


def groups_of(results: Results) -> dict[str, dict[int, str]]:
    """Return the ids of the ensembles of a study over seeds, by what they are called together, then by seed."""
    found: dict[str, dict[int, str]] = {}
    for e in ordered(results):
        if e.get("group"):
            found.setdefault(e["group"], {})[e["seed"]] = e["id"]
    return found if results.get("over_seeds") else {}


def beside_baseline(results: Results) -> dict[str, str]:
    """Return the plain ensemble that each of the others is compared with: over seeds the one of the same seed."""
    plain = [e for e in results["ensembles"] if e["defense"] == "baseline"]
    of = {e.get("seed"): e["id"] for e in reversed(plain)}
    return {e["id"]: of[e.get("seed")] for e in ordered(results) if e["defense"] != "baseline" and e.get("seed") in of}


def ordered(results: Numbers) -> list[EnsembleResult]:
    """Return the ensembles with the baseline first, otherwise in the order of the file."""
    plain_id = baseline_of(results)
    return sorted(results["ensembles"], key=lambda e: e["id"] != plain_id)


def in_order(results: Numbers, records: Iterable[OfEnsemble]) -> list[OfEnsemble]:
    """Return records in the order of their ensembles, those of one as they were; of an unlisted ensemble last."""
    place = {e["id"]: at for at, e in enumerate(ordered(results))}
    return sorted(records, key=lambda record: place.get(record["ensemble"], len(place)))
