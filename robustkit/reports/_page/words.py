"""What a report's page says in sentences: what was evaluated, what came out, what would settle doubts."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from robustkit.records.schema import Results, WorstCase
from robustkit.reports import _comparisons, _suite_audit
from robustkit.reports import _format as f
from robustkit.reports._checks import Headline, headline_budget
from robustkit.reports._labels import beside_baseline, budget, budget_text, groups_of, labeller
from robustkit.reports._over_seeds import SIGN


def scope(results: Results) -> list[str]:
    """Return what was evaluated, in a few phrases."""
    label, data = labeller(results), results["dataset"]
    budgets = sorted({budget(e)[::-1] for e in results["evaluations"]})
    attacks = dict.fromkeys(label(e) for e in results["evaluations"])
    phrases = [f"{data['name']}, {data['split']} split, n = {data['n']}, {len(data['classes'])} classes"]
    phrases += ["attacks: " + "; ".join(attacks)] if attacks else []
    phrases += ["eps " + ", ".join(budget_text(eps, norm) for norm, eps in budgets)] if budgets else []
    return phrases


def takeaway(results: Results, lines: list[Headline]) -> list[str]:
    """Return the result in sentences: every defence beside the baseline at the headline budget."""
    at, against = headline_budget(results), "Against the worst of all attacks, eps "
    worst = {h.ensemble["id"]: h.worst for h in lines if h.worst}
    pairs = {i: plain for i, plain in beside_baseline(results).items() if i in worst and plain in worst}
    if at is None:
        return []
    if groups := groups_of(results):
        return _over_seeds(results, at, groups)
    rows = {row["ensemble"]: row for row in _comparisons.of_worst_cases(results.get("comparisons", []), *at)}
    return [
        f"{against}{budget_text(*at)}, {i} keeps {_share(worst[i])}, {plain} {_share(worst[plain])}: "
        + (
            _comparisons.told_text(rows[i])
            if i in rows
            else f"{f.points(worst[i]['robust_accuracy'] - worst[plain]['robust_accuracy'])} points."
        )
        for i, plain in pairs.items()
    ]


def _over_seeds(results: Results, at: tuple[float, str], groups: Mapping[str, Any]) -> list[str]:
    """Return the worst case of every defence at a budget, over seeds, then the differences."""
    against = f"Against the worst of all attacks, eps {budget_text(*at)}, "
    kept = [
        f"{against}{o['group']} keeps {f.percent(o['mean'])} {SIGN} "
        f"{f.percent(o['std'])} % (mean {SIGN} standard deviation over {len(o['seeds'])} seeds; over samples "
        f"{f.interval(o['ci95'])})."
        for o in results.get("over_seeds", [])
        if o["metric"] == "worst_case" and (o["eps"], o["norm"]) == at and o["group"] in groups
    ]
    differences = [
        f"{against}over {len(row['seeds'])} seeds, {row['ensemble']} minus {row['reference']}: "
        + _comparisons.told_text(row)
        for row in _comparisons.of_worst_cases(results.get("comparisons_over_seeds", []), *at)
    ]
    return [*kept, *differences]


def _share(w: WorstCase) -> str:
    return f"{f.percent(w['robust_accuracy'])} % {f.interval(w['ci95'])}"


def audited(results: Results) -> dict[str, list[str]] | None:
    """Return what the first page says of other people's models: how they were run, concerns, what was not tested."""
    if not results["audit"]:
        return None
    about = {
        "run": _suite_audit.brief, "concerns": _suite_audit.concerns, "outside": _suite_audit.from_outside,
        "untested": _suite_audit.not_tested,
    }  # fmt: skip
    return {name: phrases(results) for name, phrases in about.items()}
