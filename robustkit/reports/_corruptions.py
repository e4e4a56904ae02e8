"""Natural corruptions in tables."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np

from robustkit.records.schema import CorruptionResult, Results
from robustkit.reports import _format as f
from robustkit.reports._labels import in_order

Lines = list[list[str]]


def by_suite(results: Results) -> dict[str, list[CorruptionResult]]:
    """Return the results of each suite, the baseline first."""
    found: dict[str, list[CorruptionResult]] = {}
    for result in in_order(results, results["corruptions"]):
        found.setdefault(result["suite"], []).append(result)
    return found


def summary(results: Results) -> tuple[list[str], Lines, str, list[dict[str, Any]]]:
    """Return columns, rows, note and raw records: a row for each suite and ensemble, then its members."""
    columns = ["suite", "ensemble", "clean %", "corrupted %", "drop", "mCE", "relative mCE", "NLL", "ECE %", "Brier"]
    rows, notes = [], dict[str, None]()
    for suite, group in by_suite(results).items():
        for r in group:
            shares = [f.percent(r["clean_accuracy"]), f.percent(r["accuracy"]), f.points(-r["accuracy_drop"])]
            numbers = [
                _one(r["mce"]),
                _one(r["relative_mce"]),
                f.number(r["nll"]),
                f.percent(r["ece"]),
                f.number(r["brier"]),
            ]
            rows.append([suite, r["ensemble"], *shares, *numbers])
            for at, (clean, own) in enumerate(zip(r["clean_member_accuracy"], r["member_accuracy"], strict=True)):
                member = [f"{r['ensemble']}, member {at}", f.percent(clean), f.percent(own), f.points(own - clean)]
                rows.append([suite, *member, *[f.NONE] * 5])
            notes |= dict.fromkeys(f"{suite}: {note}" for note in r["notes"])
            if r["reference"]:
                notes[f"{suite}: mCE against {r['reference']}."] = None
    note = "Accuracy on clean and on corrupted images, mean over corruptions and severities. "
    return columns, rows, note + " ".join(notes), _records(results)


def details(results: Results) -> Iterator[tuple[str, str, list[str], Lines]]:
    """Yield (name, title, columns, rows) for each suite: accuracy by corruption, ensemble and severity."""
    for suite, group in by_suite(results).items():
        severities = sorted({level["severity"] for r in group for level in r["levels"]})
        columns = ["corruption", "ensemble", *(f"severity {s} %" for s in severities), "mean %"]
        rows = []
        for name in dict.fromkeys(level["corruption"] for r in group for level in r["levels"]):
            for r in group:
                at = {v["severity"]: v["accuracy"] for v in r["levels"] if v["corruption"] == name}
                shares = [f.percent(at[s]) if s in at else f.NONE for s in severities]
                rows.append([name, r["ensemble"], *shares, f.percent(float(np.mean(list(at.values()))))])
        yield f.slug("corruptions", suite), f"{suite}: accuracy by severity", columns, rows


def _records(results: Results) -> list[dict[str, Any]]:
    """Return one record per ensemble, suite, corruption and severity."""
    return [
        {"suite": r["suite"], "ensemble": r["ensemble"], "source": r["source"], "clean_accuracy": r["clean_accuracy"],
         **{key: value for key, value in level.items() if key != "member_accuracy"},
         **{f"member_{at}_accuracy": own for at, own in enumerate(level["member_accuracy"])}}
        for r in results["corruptions"] for level in r["levels"]
    ]  # fmt: skip


def _one(value: float | None) -> str:
    return f.NONE if value is None else f"{value:.1f}"
