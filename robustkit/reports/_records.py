"""Raw values in long format, one flat dict per row: what the CSV files hold."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

from robustkit.records.schema import Results, Transfer
from robustkit.reports._labels import Run, budget, ordered

Record = dict[str, Any]


def ensembles(results: Results) -> list[Record]:
    """Return one record per ensemble."""
    return [
        {k: _json(v) if k in ("params", "member_accuracy", "checkpoint", "training") else v for k, v in e.items()}
        for e in ordered(results)
    ]


def evaluations(results: Results, label: Callable[[Run], str]) -> list[Record]:
    """Return one record per evaluation, its interval as two columns and its failing checks by name."""
    records = []
    for e in results["evaluations"]:
        low, high = e["ci95"]
        failed = " ".join(c["name"] for c in e["checks"] if not c["passed"])
        record: Record = {}
        for key, value in e.items():
            if key == "attack":
                record |= {"attack": value, "label": label(e)}
            elif key == "ci95":
                record |= {"ci_low": low, "ci_high": high}
            elif key == "checks":
                record["failed_checks"] = failed
            else:
                record[key] = _json(value) if key == "params" else value
        records.append(record)
    return records


def worst_case(results: Results) -> list[Record]:
    """Return one record per ensemble and budget."""
    return [
        {
            **{k: v for k, v in w.items() if k not in ("ci95", "checks")},
            "ci_low": w["ci95"][0], "ci_high": w["ci95"][1],
            "failed_checks": " ".join(c["name"] for c in w["checks"] if not c["passed"]),
        }
        for w in results["worst_case"]
    ]  # fmt: skip


def escalations(results: Results) -> list[Record]:
    """Return one record per attack that followed on a suspect worst case."""
    return [
        {"ensemble": e["ensemble"], "eps": e["eps"], "norm": e["norm"], "before": e["before"], "step": number,
         **step, "params": _json(step["params"]), "because": " ".join(step["because"])}
        for e in results["escalation"]
        for number, step in enumerate(e["path"], 1)
    ]  # fmt: skip


def minimum_norms(results: Results) -> list[Record]:
    """Return one record per point of every accuracy-versus-distortion curve."""
    return [
        {**{k: v for k, v in m.items() if k not in ("params", "eps", "accuracy")}, "params": _json(m["params"]),
         "eps": eps, "accuracy": accuracy}
        for m in results["minimum_norm"]
        for eps, accuracy in zip(m["eps"], m["accuracy"], strict=True)
    ]  # fmt: skip


def checks(results: Results, label: Callable[[Run], str]) -> list[Record]:
    """Return one record per check of every evaluation and worst case, the passed ones included."""
    runs = [
        {"ensemble": e["ensemble"], "attack": e["attack"], "label": label(e), "backend": e["backend"],
         "eps": e["eps"], "norm": e["norm"], "targeted": e["targeted"], "verdict": e["verdict"], **check}
        for e in results["evaluations"]
        for check in e["checks"]
    ]  # fmt: skip
    worst = [
        {"ensemble": w["ensemble"], "attack": "", "label": "worst case", "backend": "", "eps": w["eps"],
         "norm": w["norm"], "targeted": False, "verdict": w["verdict"], **check}
        for w in results["worst_case"]
        for check in w["checks"]
    ]  # fmt: skip
    return runs + worst


def transfer(t: Transfer, label: Callable[[Run], str]) -> list[Record]:
    """Return one record per cell of a transfer matrix."""
    eps, norm = budget(t)
    about = {"ensemble": t["ensemble"], "attack": t["attack"], "label": label(t), "eps": eps, "norm": norm}
    about |= {"targeted": t["targeted"], "metric": t["metric"]}
    return [
        {**about, "source": source, "target": target, "value": value}
        for source, row in zip(t["sources"], t["matrix"], strict=True)
        for target, value in zip(t["targets"], row, strict=True)
    ]


def _json(value: Any) -> str:
    return json.dumps(value, sort_keys=True)
