"""The numbers of ``results.json`` in long format, one a row, whatever measured them. Never imports torch."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from robustkit.base.budgets import union_text
from robustkit.records.schema import Results
from robustkit.reports._labels import budget, labeller

Row = dict[str, Any]
# suite: what measured it; of: the attack, corruption, score, set, output or measure; metric: what the value is.
COLUMNS = (
    "suite", "ensemble", "of", "eps", "norm", "targeted", "severity", "source", "target", "metric", "value", "ci_low",
    "ci_high", "verdict",
)  # fmt: skip
CALIBRATION = ("nll", "ece", "brier")


def numbers(results: Results) -> tuple[list[Row], list[str]]:
    """Return the rows and their columns; what has no meaning for a number, or no value, is None.

    Curves, histograms, the checks and the subsets of a pool are left to ``results.json``.
    """
    parts = (
        _clean,
        _attacks,
        _across,
        _transfer,
        _minimum_norms,
        _corruptions,
        _detection,
        _ood,
        _calibration,
        _diversity,
    )
    blank = dict.fromkeys(COLUMNS)
    return [{**blank, **row} for part in parts for row in part(results)], list(COLUMNS)


def _clean(results: Results) -> Iterator[Row]:
    for e in results["ensembles"]:
        yield {"suite": "clean", "ensemble": e["id"], "metric": "accuracy", "value": e["accuracy"]}
        for at, value in enumerate(e["member_accuracy"]):
            own = {"target": f"member-{at}", "metric": "accuracy", "value": value}
            yield {"suite": "clean", "ensemble": e["id"], **own}


def _attacks(results: Results) -> Iterator[Row]:
    label = labeller(results)
    runs = [("attacks", label(e), e["targeted"], e) for e in results["evaluations"]]
    for suite, name, targeted, e in [*runs, *(("worst_case", None, None, w) for w in results["worst_case"])]:
        eps, norm = budget(e)
        yield {
            "suite": suite, "ensemble": e["ensemble"], "of": name, "eps": eps, "norm": norm, "targeted": targeted,
            "metric": "robust_accuracy", "value": e["robust_accuracy"], "ci_low": e["ci95"][0],
            "ci_high": e["ci95"][1], "verdict": e["verdict"],
        }  # fmt: skip


def _across(results: Results) -> Iterator[Row]:
    for u in results.get("union", []):
        yield {
            "suite": "union", "ensemble": u["ensemble"], "of": union_text(u["budgets"]), "metric": "robust_accuracy",
            "value": u["robust_accuracy"], "ci_low": u["ci95"][0], "ci_high": u["ci95"][1], "verdict": u["verdict"],
        }  # fmt: skip
    label = labeller(results)
    for one in results.get("optimality", []):
        about = {"suite": "optimality", "ensemble": one["ensemble"], "of": label(one), "norm": one["norm"]}
        yield {**about, "targeted": one["targeted"], "metric": "optimality", "value": one["optimality"]}


def _transfer(results: Results) -> Iterator[Row]:
    label = labeller(results)
    for t in results["transfer"]:
        eps, norm = budget(t)
        about = {"suite": "transfer", "ensemble": t["ensemble"], "of": label(t), "eps": eps, "norm": norm}
        about |= {"targeted": t["targeted"], "metric": t["metric"]}
        for source, row in zip(t["sources"], t["matrix"], strict=True):
            for target, value in zip(t["targets"], row, strict=True):
                yield {**about, "source": source, "target": target, "value": value}


def _minimum_norms(results: Results) -> Iterator[Row]:
    for m in results["minimum_norm"]:
        about = {"suite": "minimum_norm", "ensemble": m["ensemble"], "of": m["attack"], "norm": m["norm"]}
        for metric, value in (("found", m["found"]), ("median", m["median"])):
            yield {**about, "targeted": m["targeted"], "metric": metric, "value": value}


def _corruptions(results: Results) -> Iterator[Row]:
    for c in results["corruptions"]:
        about = {"suite": "corruptions", "ensemble": c["ensemble"]}
        for metric in ("accuracy", "mce", "relative_mce"):
            yield {**about, "of": c["suite"], "metric": metric, "value": c[metric]}
        for level in c["levels"]:
            own = {"of": level["corruption"], "severity": level["severity"]}
            yield {**about, **own, "metric": "accuracy", "value": level["accuracy"]}


def _detection(results: Results) -> Iterator[Row]:
    for d in results["detection"]:
        about = {"suite": "detection", "ensemble": d["ensemble"], "of": d["attack"], "eps": d["eps"], "norm": d["norm"]}
        score = d["score"] + (", adaptive" if d["adaptive"] else "")
        yield {**about, "target": score, "metric": "auroc", "value": d["auroc"], **_interval(d["ci95"])}
        yield {**about, "target": score, "metric": "evaded", "value": d["evaded"]}


def _ood(results: Results) -> Iterator[Row]:
    for o in results["ood"]:
        for one in o["sets"]:
            for s in one["scores"]:
                about = {"suite": "ood", "ensemble": o["ensemble"], "of": one["name"], "target": s["score"]}
                yield {**about, "metric": "auroc", "value": s["auroc"], **_interval(s["ci95"])}
                yield {**about, "metric": "fpr95", "value": s["fpr95"]}


def _calibration(results: Results) -> Iterator[Row]:
    for c in results["calibration"]:
        about = {"suite": "calibration", "ensemble": c["ensemble"], "target": c["output"]}
        yield {**about, "metric": "temperature", "value": c["temperature"]}
        for when, measured in (("before", c["before"]), ("after", c["after"])):
            for name in CALIBRATION:
                value = measured[name] if measured else None  # type: ignore[literal-required]
                yield {**about, "of": when, "metric": name, "value": value}


def _diversity(results: Results) -> Iterator[Row]:
    for d in results["diversity"]:
        for pair in d["pairwise"]:
            about = {"suite": "diversity", "ensemble": d["ensemble"], "of": pair["name"]}
            yield {**about, "metric": "mean over pairs", "value": pair["mean"]}


def _interval(ci95: list[float] | None) -> Row:
    return {"ci_low": ci95[0], "ci_high": ci95[1]} if ci95 else {}
