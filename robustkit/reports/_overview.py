"""One row for each ensemble with a number of each suite: what a comparison of defences prints."""

from __future__ import annotations

import statistics
from collections.abc import Iterator, Sequence

from robustkit.records.schema import EnsembleResult, Results, Transfer
from robustkit.reports import _format as f
from robustkit.reports._checks import hint, reason
from robustkit.reports._labels import budget, budget_text, labeller, ordered
from robustkit.reports._table import Cell, Table, cells

FURTHER = ("transfer", "detection", "ood", "calibration", "corruptions")
SCORE = "msp"  # which every ensemble has
PASSED = "misled"  # heads the share of transferred images
NOTES = {  # what a column means, by a part of its head
    "worst": f"Worst case over all attacks; verdicts: {f.LEGEND}.",
    PASSED: "Misled: of the images made against one member, how many mislead another, both being right before, mean "
    "over pairs.",
    "detection": f"Detection: AUROC of {SCORE} against the worst attack that ignores it.",
    "OOD": f"OOD: AUROC of {SCORE} on out-of-distribution sets.",
    "ECE": "ECE before the temperature.",
    "corruptions": "Corruptions: mean accuracy.",
    "training": "Training: seconds on the machine that trained.",
}


def overview(results: Results) -> Iterator[Table]:
    """Yield the table where several ensembles were asked for three further suites or more."""
    ran = [name for name in FURTHER if results.get(name)]
    every = ordered(results)
    if len(every) < 2 or len(ran) < 3:
        return
    rows = [[*cells(e["id"]), *(cell for _, cell in _numbers(e, results))] for e in every]
    columns = ["ensemble", *(name for name, _ in _numbers(every[0], results))]
    note = " ".join(["In %, but seconds.", *(text for head, text in NOTES.items() if any(head in c for c in columns))])
    yield Table("overview", "Overview", columns, "l" + "r" * (len(columns) - 1), rows, note)


def _numbers(e: EnsembleResult, results: Results) -> list[tuple[str, Cell]]:
    """Return the columns of an ensemble, which are the same for all of them."""
    found = [("clean", _cell(e["accuracy"]))]
    worst = {(w["norm"], w["eps"]): w for w in results["worst_case"] if w["ensemble"] == e["id"]}
    for norm, eps in sorted({(w["norm"], w["eps"]) for w in results["worst_case"]}):
        w = worst.get((norm, eps))
        percent = f.percent(w["robust_accuracy"]) if w else f.NONE
        cell = Cell(percent, w["verdict"], hint(w), f.as_number(percent), *reason(w)) if w else Cell(percent)
        found.append((f"worst at {budget_text(eps, norm)}", cell))
    if results["transfer"]:
        found.append(_transfer(e["id"], results))
    if results.get("detection", []):
        own = [r for r in results.get("detection", []) if r["ensemble"] == e["id"] and r["score"] == SCORE]
        own = [r for r in own if not r["adaptive"] and r["labels"] == "predicted" and r["auroc"] is not None]
        found.append(("detection", _cell(min((r["auroc"] or 0.0 for r in own), default=None))))
    for distance in dict.fromkeys(m["distance"] for r in results.get("ood", []) for m in r["means"]):
        means = [m["auroc"] for r in results.get("ood", []) if r["ensemble"] == e["id"] for m in r["means"]
                 if m["distance"] == distance and m["score"] == SCORE]  # fmt: skip
        found.append((f"{distance} OOD", _cell(next(iter(means), None))))
    if results.get("calibration", []):
        fused = [
            r["before"] for r in results.get("calibration", []) if (r["ensemble"], r["output"]) == (e["id"], "ensemble")
        ]
        found.append(("ECE", _cell(next((b["ece"] for b in fused if b), None))))
    for suite in dict.fromkeys(r["suite"] for r in results.get("corruptions", [])):
        shares = [
            r["accuracy"] for r in results.get("corruptions", []) if (r["ensemble"], r["suite"]) == (e["id"], suite)
        ]
        found.append((f"{suite} corruptions", _cell(next(iter(shares), None))))
    seconds = ((e.get("training") or {"metrics": {}})["metrics"]).get("seconds")
    text = f.NONE if seconds is None else f.Number.of(float(seconds), lambda value: f"{value:.0f}")
    return [*found, ("training, s", Cell(text, number=f.as_number(text)))]


def _cell(share: float | None) -> Cell:
    text = f.percent(share)
    return Cell(text, number=f.as_number(text))


def _transfer(id: str, results: Results) -> tuple[str, Cell]:
    """Return how often images made against one member mislead another, at the largest budget."""
    every = [t for t in results["transfer"] if not t["targeted"]]
    exact = [t for t in every if t["metric"] == "accuracy-common-correct"] or every
    if not exact:
        return PASSED, Cell(f.NONE)
    shown = max(exact, key=lambda t: t["params"]["eps"])
    label = labeller(results)
    same = [t for t in exact if t["ensemble"] == id and (label(t), t["params"]["eps"], t["metric"])
            == (label(shown), shown["params"]["eps"], shown["metric"])]  # fmt: skip
    head = f"{PASSED}, {label(shown)} at {budget_text(*budget(shown))}"
    return head, _cell(_misled(same[0]) if same else None)


def _misled(t: Transfer) -> float | None:
    """Return one minus the mean accuracy off the diagonal, between members."""
    members = [name for name in t["sources"] if name.startswith("member")]
    off: Sequence[float] = [
        t["matrix"][t["sources"].index(a)][t["targets"].index(b)] for a in members for b in members if a != b
    ]
    return 1 - statistics.fmean(off) if off else None
