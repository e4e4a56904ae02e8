"""Differences between ensembles on the same samples, with what they are worth: two tables, and a cell for others."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import TypeVar

from robustkit.functional.paired import told
from robustkit.records.schema import Results
from robustkit.records.schema_comparison import Comparison, SeedComparison
from robustkit.reports import _format as f
from robustkit.reports._labels import Run, budget_text, labeller
from robustkit.reports._table import Cell, Table, cells

Row = TypeVar("Row", Comparison, SeedComparison)
LEVEL = 0.05  # of a test, all of its table in mind
NUMBERS = {
    "clean": "clean accuracy", "worst_case": "worst case", "common": "worst case, attacks of both",
    "union": "robust to all norms",
}  # fmt: skip
NOTE = (
    "Over the same {n} samples: the difference in points with Tango's paired 95 % interval, on how many samples one "
    "alone is right, McNemar's exact p, and the same by Holm, {tests} in mind; * below .05. Where the "
    "interval covers zero: how many samples would tell so large a difference apart four times in five."
)
COLUMNS = [
    "eps", "number", "ensemble", "%", "reference %", "difference", "right alone", "p", "p, Holm", "samples needed",
]  # fmt: skip


def tables(results: Results) -> list[Table]:
    """Return the comparison of clean accuracies and worst cases, and that of single attacks; none of one ensemble."""
    rows, label = results.get("comparisons", []), labeller(results)
    first = [row for row in rows if row["number"] != "attack"]
    second = [row for row in rows if row["number"] == "attack"]
    name = "comparisons-attacks"
    seeds = seeds_table(results.get("comparisons_over_seeds", []), label)
    return [seeds, table(first, label), table(second, label, name, "Under each attack, differences from")]


def table(
    rows: Sequence[Comparison], label: Callable[[Run], str], name: str = "comparisons", title: str = "Differences from"
) -> Table:
    """Return one table of comparisons with one reference, whose p-values were adjusted together."""
    ordered, apart = sorted(rows, key=_place), len({row["reference"] for row in rows}) > 1  # each seed has its own
    body = [
        [
            *cells(*_about(row, label), f"{row['ensemble']} - {row['reference']}" if apart else row["ensemble"]),
            *cells(f.percent(row["accuracy"]), f.percent(row["reference_accuracy"]), difference(row)),
            *cells(_alone(row), p_text(row["p"]), p_text(row["p_holm"]) + ("*" if row["p_holm"] < LEVEL else "")),
            Cell(needed(row)),
        ]
        for row in ordered
    ]
    tests = "the 1 row" if len(rows) == 1 else f"all {len(rows)} rows"
    note = NOTE.format(n=rows[0]["n"] if rows else 0, tests=tests)
    whole = title.removesuffix(" from") if apart or not rows else f"{title} {rows[0]['reference']}"
    grouped = len({row["ensemble"] for row in rows}) > 1
    records = [_record(row, label) for row in ordered]
    return Table(name, whole, COLUMNS, "lllrrrrrrr", body, note, 3, grouped, records)


def seeds_table(rows: Sequence[SeedComparison], label: Callable[[Run], str]) -> Table:
    """Return the table of differences over seeds: mean, paired t interval, standard deviation, p-values."""
    ordered = sorted(rows, key=lambda row: (row["number"] == "attack", *_place(row)))
    body = [
        [
            *cells(*_about(row, label), row["ensemble"], difference(row), f"{100 * row['std']:.1f}"),
            *cells(p_text(row["p"]), p_text(row["p_holm"]) + ("*" if row["p_holm"] < LEVEL else "")),
        ]
        for row in ordered
    ]
    seeds = rows[0]["seeds"] if rows else []
    note = (
        f"Mean over {len(seeds)} seeds ({', '.join(map(str, seeds))}) of the difference within each, in points, with "
        "the 95 % interval and p-value of the paired t test over seeds, and the standard deviation of the differences; "
        "* below .05 by Holm, numbers of single attacks apart."
    )
    title = f"Over seeds, differences from {rows[0]['reference']}" if rows else ""
    columns = ["eps", "number", "ensemble", "difference", "deviation", "p", "p, Holm"]
    return Table("comparisons-over-seeds", title, columns, "lllrrrr", body, note, 3, True, [*map(_record_of, ordered)])


def _record_of(row: SeedComparison) -> dict[str, object]:
    kept = {key: value for key, value in row.items() if key not in ("ci95", "params", "seeds", "values")}
    return {
        **kept, "params": f.plain(row["params"]), "ci_low": row["ci95"][0], "ci_high": row["ci95"][1],
        "seeds": f.plain(row["seeds"]), "values": f.plain(row["values"]),
    }  # fmt: skip


def _place(row: Comparison | SeedComparison) -> tuple[int, str, float]:
    if row["number"] == "union":
        return 2, "", 0.0  # as they go together, the smallest budgets first
    return int(row["eps"] is not None), row["norm"], row["eps"] or 0.0


def difference(row: Comparison | SeedComparison) -> str:
    """Return a difference in points with its interval: ``+12.2 [+8.1, +16.3]``."""
    low, high = row["ci95"]
    return f"{f.points(row['difference'])} [{f.points(low)}, {f.points(high)}]"


def p_text(p: float) -> str:
    """Return a p-value as papers do: ``.012``, ``<.001``."""
    return "<.001" if p < 0.001 else "1" if p > 0.9995 else f"{p:.3f}".removeprefix("0")


def p_said(row: Comparison | SeedComparison) -> str:
    """Return the adjusted p-value in a sentence: ``p = .012``, ``p < .001``."""
    return f"p = {p_text(row['p_holm'])}".replace("= <", "< ")


def needed(row: Comparison) -> str:
    """Return how many samples tell how many points apart: ``1240 for 2.0 points``; ``-`` where it is told already."""
    return f.NONE if row["needed"] is None else f"{row['needed']} for {100 * told(row['difference']):.1f} points"


def of_attacks(results: Results, label: Callable[[Run], str]) -> dict[tuple[str, float, str, str], Comparison]:
    """Return the comparisons of single attacks by norm, eps, label and ensemble."""
    rows: Iterable[Comparison] = results.get("comparisons", [])
    return {
        (row["norm"], row["eps"] or 0.0, label(row), row["ensemble"]): row for row in rows if row["number"] == "attack"
    }


def of_worst_cases(rows: Sequence[Row], eps: float, norm: str) -> list[Row]:
    """Return the comparisons of worst cases at a budget."""
    return [row for row in rows if row["number"] == "worst_case" and (row["eps"], row["norm"]) == (eps, norm)]


def told_text(row: Comparison | SeedComparison) -> str:
    """Return a difference in a sentence's end, with its interval, p, and where it is not told how many images would."""
    needed = row.get("needed")  # seeds are not made of images
    points = f"{100 * told(row['difference']):.1f}"
    more = f" {needed} images would tell {points} points apart." if needed else ""
    return f"{difference(row)} points, {p_said(row)} by Holm.{more}"


def _about(row: Comparison | SeedComparison, label: Callable[[Run], str]) -> tuple[str, str]:
    where = (row["norm"] or f.NONE) if row["eps"] is None else budget_text(row["eps"], row["norm"])
    return where, NUMBERS.get(row["number"]) or label(row)


def _alone(row: Comparison) -> str:
    return f.NONE if row["only_ensemble"] is None else f"{row['only_ensemble']} : {row['only_reference']}"


def _record(row: Comparison, label: Callable[[Run], str]) -> dict[str, object]:
    low, high = row["ci95"]
    plain = {key: value for key, value in row.items() if key not in ("ci95", "params")}
    return {**plain, "number": _about(row, label)[1], "params": f.plain(row["params"]), "ci_low": low, "ci_high": high}
