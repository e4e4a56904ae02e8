"""Verdicts: what failed, and the headline number of each ensemble with the verdict that it deserves."""

from __future__ import annotations

import hashlib
import json
from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from robustkit.records.schema import ORDER, Check, EnsembleResult, Evaluation, Numbers, Results, Verdict, WorstCase
from robustkit.reports._format import number
from robustkit.reports._labels import Run, budget, budget_text, labeller, ordered

UNNAMED = "(none recorded)"
WORST = "worst case"
OWN = "own_ensemble"  # the id of the ensemble of a number that stands under the name of its group


@dataclass(frozen=True)
class Failure:
    """One failing check of one number; ``value`` and ``threshold`` are None where no check was recorded."""

    ensemble: str
    budget: str
    attack: str
    verdict: Verdict
    check: str
    value: float | None
    threshold: float | None
    advice: str


def failing(results: Results) -> list[Failure]:
    """Return the failing checks of every number that is not trusted: the worst cases, then the runs."""
    label = labeller(results)
    found: list[Failure] = []
    numbers: list[tuple[str, Run]] = [(WORST, w) for w in results["worst_case"]]
    numbers += [(label(e), e) for e in results["evaluations"]]
    for name, e in numbers:
        if e["verdict"] == "trusted":
            continue
        about = (e["ensemble"], budget_text(*budget(e)), name, e["verdict"])
        found += [
            Failure(*about, c["name"], c["value"], None if c["name"] == UNNAMED else c["threshold"], c["advice"])
            for c in failed(e)
        ]
    return found


def failed(run: Run) -> list[Check]:
    """Return the checks that a number failed; one without a name where it is not trusted and says no reason."""
    found: list[Check] = [c for c in run["checks"] if not c["passed"]]
    if found or run["verdict"] == "trusted":  # a number without a reason is still one to mention
        return found
    return [{"name": UNNAMED, "passed": False, "value": None, "threshold": 0.0, "advice": ""}]


def runs_of(results: Numbers, ensemble: str) -> list[Evaluation]:
    """Return the evaluations of an ensemble, in their order."""
    return [e for e in results["evaluations"] if e["ensemble"] == ensemble]


def strongest(runs: Sequence[Evaluation], at: tuple[float, str] | None) -> int | None:
    """Return which of an ensemble's evaluations is the strongest at a budget (eps, norm); None: none is there.

    Of equally strong ones the first trusted one vouches for the number.
    """
    here = [place for place, e in enumerate(runs) if budget(e) == at]
    return min(here, key=lambda p: (runs[p]["robust_accuracy"], runs[p]["verdict"] != "trusted"), default=None)


def worst_of(failures: list[Failure]) -> Verdict:
    """Return the worst verdict of some numbers."""
    return max((x.verdict for x in failures), key=ORDER.index)


def by_check(results: Results) -> list[tuple[str, str, list[Failure]]]:
    """Return (check, advice, failures), so that advice shared by many numbers is read once; the commonest first."""
    groups = defaultdict[tuple[str, str], list[Failure]](list)
    for failure in failing(results):
        groups[failure.check, failure.advice].append(failure)
    ranked = sorted(groups.items(), key=lambda item: -len(item[1]))
    return [(check, advice, failures) for (check, advice), failures in ranked]


def anchor(run: Run, whose: str = "") -> str:
    """Return where a page says why a number has its verdict: a name made of what the number is of, and nothing else.

    ``whose`` tells the numbers of several evaluations apart.
    """
    about = (run.get(key) for key in ("attack", "backend", "params", "targeted", "eps", "norm"))
    of = [whose, run.get(OWN, run["ensemble"]), *about]
    return "why-" + hashlib.sha256(json.dumps(of, sort_keys=True).encode()).hexdigest()[:10]


def reason(e: Evaluation | WorstCase, whose: str = "") -> tuple[str, str]:
    """Return where a page explains the verdict of a number (nowhere: nothing was checked), and a few words of it."""
    names = [c["name"] for c in e["checks"] if not c["passed"]]
    if e["verdict"] != ORDER[0]:
        more = f" and {len(names) - 1} more" if len(names) > 1 else ""
        return anchor(e, whose), f"fails {names[0]}{more}" if names else "no check is recorded"
    return ("passed", f"passed every check ({len(e['checks'])})") if e["checks"] else ("", "")


def hint(e: Evaluation | WorstCase) -> str:
    """Return the verdict in words: every failing check with value, threshold and advice."""
    failed = [
        f"{c['name']} {number(c['value'])} (threshold {number(c['threshold'])}): {c['advice']}"
        for c in e["checks"]
        if not c["passed"]
    ]
    return "\n".join([e["verdict"] + (":" if failed else ""), *failed])


@dataclass(frozen=True)
class Headline:
    """The number to quote for one ensemble: its worst case at the headline budget.

    ``verdict`` is its own; None where nothing was attacked. ``strongest`` names the run that leaves the fewest samples
    standing, ``verdicts`` counts every run of the ensemble, ``others`` are its worst cases at the other budgets.
    """

    ensemble: EnsembleResult
    budget: str
    worst: WorstCase | None
    verdict: Verdict | None
    strongest: str
    verdicts: Counter[Verdict]
    others: list[WorstCase]


def headline_budget(results: Numbers) -> tuple[float, str] | None:
    """Return the (eps, norm) to quote: the one that most runs used; None where nothing ran.

    Of several, the one that the transfer matrices were made at (a dataset's middling eps), else the largest.
    """
    transfer: Any = results.get("transfer", ())  # which no more than the numbers of a file lack
    made = {budget(t) for t in transfer}
    runs = [budget(e) for e in results["evaluations"]] or [budget(w) for w in results["worst_case"]]
    count = Counter(runs)
    return max(count, key=lambda b: (count[b], b[1] == "linf", b in made, b[0]), default=None)


def headlines(results: Numbers) -> Iterator[Headline]:
    """Yield the headline of every ensemble, the baseline first."""
    label, at = labeller(results), headline_budget(results)
    for ensemble in ordered(results):
        own = runs_of(results, ensemble["id"])
        worst = [w for w in results["worst_case"] if w["ensemble"] == ensemble["id"]]
        quoted = next((w for w in worst if budget(w) == at), None)
        best = strongest(own, at)
        verdict = quoted["verdict"] if quoted else None
        yield Headline(
            ensemble, budget_text(*at) if at else "", quoted, verdict, "" if best is None else label(own[best]),
            Counter(e["verdict"] for e in own), [w for w in worst if w is not quoted],
        )  # fmt: skip
