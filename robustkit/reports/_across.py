"""Tables across norms and attacks: who withstands all norms, and which attack earned its keep."""

from __future__ import annotations

import json
from typing import Any

from robustkit.base.budgets import union_text
from robustkit.records.schema import Results, UnionCase
from robustkit.reports import _format as f
from robustkit.reports._labels import in_order, labeller, ordered
from robustkit.reports._table import Cell, Table, cells


def union(results: Results) -> Table:
    """Return the share of samples that withstand every norm, a row for each budgets that go together."""
    ids, every = [e["id"] for e in ordered(results)], results.get("union", [])
    found = {(union_text(u["budgets"]), u["ensemble"]): u for u in every}
    rows = []
    for at in dict.fromkeys(text for text, _ in found):
        rows.append([*cells(at), *(united(found.get((at, id))) for id in ids)])
    note = (
        "A sample counts only if no attack broke it in any of the norms, each at its budget. In % with Wilson 95 % "
        f"interval; the verdict is that of the worst rated of these worst cases. Verdicts: {f.LEGEND}."
    )
    records = [
        {"ensemble": u["ensemble"], "budgets": json.dumps(u["budgets"]), "robust_accuracy": u["robust_accuracy"],
         "ci_low": u["ci95"][0], "ci_high": u["ci95"][1], "verdict": u["verdict"]}
        for u in every
    ]  # fmt: skip
    columns, align = ["eps", *ids], "l" + "r" * len(ids)
    return Table("union", "Robust to all norms", columns, align, rows, note, records=records)


def united(u: UnionCase | None) -> Cell:
    """Return the share that withstands every norm, with its interval and verdict; ``-`` for none."""
    if u is None:
        return Cell(f.NONE)
    percent = f.percent(u["robust_accuracy"])
    return Cell(f"{percent} {f.interval(u['ci95'])}", u["verdict"], "", f.as_number(percent))


def optimality(results: Results) -> Table:
    """Return how near each attack came to the best of all, a row per norm and attack, the best first."""
    ids, label, every = [e["id"] for e in ordered(results)], labeller(results), results.get("optimality", [])
    found: dict[tuple[str, str], dict[str, Any]] = {}
    for one in in_order(results, every):
        found.setdefault((one["norm"], label(one)), {})[one["ensemble"]] = one
    rows = []
    for (norm, attack), by in sorted(found.items(), key=lambda item: (item[0][0], -_mean(item[1], "optimality"))):
        passes = _mean(by, "forwards") + _mean(by, "backwards")
        own = [f.percent(by[id]["optimality"]) if id in by else f.NONE for id in ids]
        rows.append(cells(norm, attack, *own, f.number(passes)))
    columns = ["norm", "attack", *ids, "passes"]
    note = (
        "Which attack earned its keep: in %, the area between clean accuracy and the attack's curve over that down to "
        "the best of everything that ran in the norm (AttackBench, arXiv:2404.19460); over distances where the attack "
        "looks for the smallest perturbation, over the eps of the run where it has a budget. Passes, forward and "
        "backward, are those of an attacked sample, at all eps together."
    )
    records = [{**one, "params": json.dumps(one["params"]), "label": label(one), "eps": json.dumps(one["eps"])}
               for one in every]  # fmt: skip
    align = "ll" + "r" * (len(ids) + 1)
    return Table("optimality", "Optimality of the attacks", columns, align, rows, note, 2, True, records)


def _mean(by: dict[str, Any], key: str) -> float:
    return float(sum(one[key] for one in by.values()) / len(by))
