"""Results to tables: formatted cells for people, raw records for programs. Renderers add only their own syntax."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from robustkit.functional.stats import wilson_of
from robustkit.records.cells import counted
from robustkit.records.schema import ORDER, Evaluation, Results, WorstCase
from robustkit.records.schema_comparison import Comparison
from robustkit.reports import _across, _comparisons, _over_seeds, _overview, _records, _suites
from robustkit.reports import _format as f
from robustkit.reports._checks import failing, hint, reason
from robustkit.reports._labels import beside_baseline, budget, budget_text, in_order, labeller, ordered, panel_text
from robustkit.reports._table import Cell, Table, cells


def tables(results: Results) -> list[Table]:
    """Return every table that has rows, in reading order; in a study over seeds those over seeds first."""
    by_seed = _by_ensemble(results)
    return _over_seeds.combined(by_seed, [_by_ensemble(one) for one in _over_seeds.split(results)], results)


def _by_ensemble(results: Results) -> list[Table]:
    every = [
        ensembles(results),
        *_overview.overview(results),
        robustness(results),
        worst_case(results),
        _across.union(results),
        _across.optimality(results),
        *_comparisons.tables(results),
        escalations(results),
        minimum_norms(results),
        checks(results),
        perturbations(results),
        *transfers(results),
        *suites(results),
        nodes(results),
    ]
    numbers = (table for table in every if len(table.columns) > table.lead)
    return [table for table in numbers if table.rows]


def ensembles(results: Results) -> Table:
    """Return what was evaluated, with clean accuracies."""
    n, rows = results["dataset"]["n"], []
    for e in ordered(results):
        share = f.percent(e["accuracy"])
        whole = Cell(f"{share} {f.interval(wilson_of(e['accuracy'], n))}", number=f.as_number(share))
        own = " ".join(f.percent(a) for a in e["member_accuracy"])
        about = cells(e["id"], e["defense"], e["arch"], str(e["members"]))
        rows.append([*about, whole, *cells(own or f.NONE)])
    columns = ["ensemble", "defense", "arch", "members", "clean accuracy %", "member accuracies %"]
    note = f"Clean accuracy on n = {n} samples with Wilson 95 % interval."
    return Table("ensembles", "Ensembles", columns, "lllrrl", rows, note, records=_records.ensembles(results))


def robustness(results: Results) -> Table:
    """Return robust accuracy: a row per budget and attack, ensembles side by side, then differences to the baseline."""
    label, ids, pairs = labeller(results), [e["id"] for e in ordered(results)], beside_baseline(results)
    found: dict[tuple[tuple[str, float], str], dict[str, Evaluation]] = {}
    for e in results["evaluations"]:
        eps, norm = budget(e)
        found.setdefault(((norm, eps), label(e)), {})[e["ensemble"]] = e
    order = {name: at for at, name in enumerate(_attack_order(results))}
    paired = _comparisons.of_attacks(results, label)
    rows = []
    for ((norm, eps), attack), by in sorted(found.items(), key=lambda item: (item[0][0], order[item[0][1]])):
        numbers = [share(by.get(i)) for i in ids]
        beside = [(by.get(i), by.get(plain), paired.get((norm, eps, attack, i))) for i, plain in pairs.items()]
        differences = [_difference(*both) for both in beside]
        rows.append([*cells(budget_text(eps, norm), attack), *numbers, *differences])
    columns = ["eps", "attack", *ids, *(f"{i} - {plain}" for i, plain in pairs.items())]
    told = ", with paired intervals" if paired else ""
    note = f"In % with Wilson 95 % interval; differences in points{told}. Verdicts: {f.LEGEND}."
    records = _records.evaluations(results, label)
    return Table(
        "robustness", "Robust accuracy", columns, "ll" + "r" * (len(columns) - 2), rows, note, 2, True, records
    )


def worst_case(results: Results) -> Table:
    """Return the per-sample worst case over all attacks, a row per budget."""
    ids = [e["id"] for e in ordered(results)]
    found = {(w["norm"], w["eps"], w["ensemble"]): w for w in results["worst_case"]}
    rows = []
    for norm, eps in sorted({key[:2] for key in found}):
        line = [found.get((norm, eps, i)) for i in ids]
        rows.append([*cells(budget_text(eps, norm)), *(share(w) for w in line)])
    note = (
        f"A sample counts as robust only if no attack broke it. In % with Wilson 95 % interval. Verdicts: {f.LEGEND}."
    )
    align, records = "l" + "r" * len(ids), _records.worst_case(results)
    return Table("worst-case", "Worst case over all attacks", ["eps", *ids], align, rows, note, records=records)


def escalations(results: Results) -> Table:
    """Return what was run because worst cases were suspect, and how far they went down."""
    rows = []
    for e in results["escalation"]:
        about = cells(e["ensemble"], budget_text(*budget(e)))
        before = Cell(f.percent(e["before"]), e["verdict_before"])
        rows.append([*about, *cells("what was asked for", ""), before])
        for step in e["path"]:
            words = counted(step["params"])
            name = f"{step['attack']} ({', '.join(words)})" if words else step["attack"]
            now = Cell(f.percent(step["robust_accuracy"]), step["verdict"])
            rows.append([*about, *cells(name, ", ".join(step["because"])), now])
    columns = ["ensemble", "eps", "then ran", "because of", "worst case %"]
    note = "Each attack ran on all samples; the number is the worst case over it and everything above it."
    return Table("escalation", "Escalation", columns, "llllr", rows, note, 2, True, _records.escalations(results))


def minimum_norms(results: Results) -> Table:
    """Return what minimum-norm attacks found: how much is broken at all, and the median distance."""
    rows = []
    for m in sorted(in_order(results, results["minimum_norm"]), key=lambda m: m["attack"]):
        name = f"{m['attack']}, targeted" if m["targeted"] else m["attack"]
        rows.append(cells(name, m["ensemble"], m["norm"], f.percent(m["found"]), f.number(m["median"])))
    columns = ["attack", "ensemble", "norm", "broken %", "median distance"]
    note = "Over all samples; one that is wrong from the start has distance 0. No median where half or more stand."
    records = _records.minimum_norms(results)
    return Table("minimum-norm", "Smallest perturbations found", columns, "lllrr", rows, note, 2, True, records)


def checks(results: Results) -> Table:
    """Return the failing checks of every number that is not trusted; the records hold the passed ones too."""
    rows = [
        [
            *cells(x.ensemble, x.budget, x.attack), Cell(x.verdict, x.verdict), *cells(x.check),
            *cells(f.number(x.value), f.number(x.threshold), x.advice),
        ]
        for x in failing(results)
    ]  # fmt: skip
    columns = ["ensemble", "eps", "attack", "verdict", "failing check", "value", "threshold", "advice"]
    records = _records.checks(results, labeller(results))
    note = "Value and threshold are in the check's own unit."
    return Table("checks", "Numbers that are not trusted", columns, "lllllrrl", rows, note, 3, True, records)


def perturbations(results: Results) -> Table:
    """Return the sizes of successful perturbations and the cost of every run."""
    label = labeller(results)
    order = {name: at for at, name in enumerate(_attack_order(results))}
    rows = []
    runs = sorted(results["evaluations"], key=lambda e: (e["norm"], e["eps"], order[label(e)]))
    for e in in_order(results, runs):
        numbers = (
            e["mean_l0"], e["mean_l1"], e["mean_l2"], e["mean_linf"], e["forwards"], e["backwards"], e["seconds"]
        )  # fmt: skip
        rows.append(cells(e["ensemble"], budget_text(*budget(e)), label(e), *map(f.number, numbers)))
    columns = ["ensemble", "eps", "attack", "L0", "L1", "L2", "Linf", "forwards", "backwards", "seconds"]
    note = (
        "L0 is a share of elements, the others are in pixel units [0, 1]; means over the successful adversarial "
        "examples. Forward and backward passes are means per attacked sample."
    )
    return Table("perturbations", "Perturbation sizes and cost", columns, "lllrrrrrrr", rows, note, 3, True)


def transfers(results: Results) -> list[Table]:
    """Return one table per transfer matrix: row = crafted on, column = scored on."""
    label, taken, found = labeller(results), set[str](), []
    for t in results["transfer"]:
        title = f"{t['ensemble']}: {panel_text(t, label)}"
        name = f.slug("transfer", t["ensemble"], label(t), budget_text(*budget(t)), t["metric"])
        rows = [cells(source, *map(f.percent, row)) for source, row in zip(t["sources"], t["matrix"], strict=True)]
        columns = ["crafted on \\ scored on", *t["targets"]]
        note = "In %. The last row and column are the fused ensemble."
        align, records = "l" + "r" * len(t["targets"]), _records.transfer(t, label)
        found.append(Table(f.unique(name, taken), title, columns, align, rows, note, records=records))
    return found


def suites(results: Results) -> Iterator[Table]:
    """Yield the tables of the further suites that ran."""
    for name in _suites.SUITES:
        yield from _suites.tables(results, name)


def nodes(results: Results) -> Table:
    """Return where the cells ran: a row for each node, ensemble and attack; no rows where all ran in one process."""
    ran = results.get("nodes", [])
    rows = [
        cells(
            one["node"], one["host"], one["ensemble"], " ".join(filter(None, (one["kind"], one["attack"]))),
            ", ".join(map(f.number, one["eps"])) or f.NONE, str(one["cells"]), f.number(one["seconds"]),
        )
        for one in ran
    ]  # fmt: skip
    columns = ["node", "host", "ensemble", "what", "eps", "cells", "seconds"]
    note = "Which node of the cluster ran what; a number does not depend on it. Seconds are those of the cells."
    return Table("nodes", "Where the cells ran", columns, "lllllrr", rows, note, 4, True, [dict(one) for one in ran])


def _attack_order(results: Results) -> list[str]:
    """Return the labels with the runs of one attack beside each other, short before long, untargeted first."""
    label = labeller(results)
    first = {name: at for at, name in reversed(list(enumerate(e["attack"] for e in results["evaluations"])))}
    key = {
        label(e): (e["targeted"], first[e["attack"]], e["params"].get("steps", 0), label(e))
        for e in results["evaluations"]
    }
    return sorted(key, key=lambda name: key[name])


def share(e: Evaluation | WorstCase | None, whose: str = "") -> Cell:
    """Return a robust accuracy with its interval and verdict; ``-`` for none. ``whose``: see :func:`_checks.anchor`."""
    if e is None:
        return Cell(f.NONE)
    percent = f.percent(e["robust_accuracy"])
    return Cell(f"{percent} {f.interval(e['ci95'])}", e["verdict"], hint(e), f.as_number(percent), *reason(e, whose))


def _difference(e: Evaluation | None, base: Evaluation | None, paired: Comparison | None) -> Cell:
    """Return the difference, with its interval where it is known, marked where one of the two is not trusted."""
    if e is None or base is None:
        return Cell(f.NONE)
    worse = max(e, base, key=lambda one: ORDER.index(one["verdict"]))
    points = f.points(e["robust_accuracy"] - base["robust_accuracy"])
    text = _comparisons.difference(paired) if paired else points
    if worse["verdict"] == ORDER[0]:
        return Cell(text, number=f.as_number(points))
    return Cell(text, worse["verdict"], "", f.as_number(points), *reason(worse))


def find(every: Sequence[Table], name: str) -> Table | None:
    """Return the table of that name, or None where it has no rows."""
    return next((table for table in every if table.name == name), None)
