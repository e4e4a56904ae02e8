"""Tables over seeds: every number as mean and standard deviation over ensembles that differ in the seed alone."""

from __future__ import annotations

import json
import math
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any, cast

from robustkit.functional.stats import wilson
from robustkit.records.schema import ORDER, Results
from robustkit.reports import _format as f
from robustkit.reports._checks import OWN
from robustkit.reports._labels import groups_of
from robustkit.reports._table import Cell, Table

EACH = "each-seed"  # what the names of the tables of single seeds end with
SIGN = "\N{PLUS-MINUS SIGN}"


def split(results: Results) -> list[Results]:
    """Return the results of each seed alone, its ensembles called by their group; nothing where there are no seeds."""
    groups = groups_of(results)
    seeds = [seed for seed in next(iter(groups.values()), {}) if all(seed in ids for ids in groups.values())]
    return (
        [_of({ids[seed]: group for group, ids in groups.items()}, results) for seed in seeds] if len(seeds) > 1 else []
    )


def _of(names: Mapping[str, str], results: Results) -> Results:
    """Return the records of some ensembles, renamed; what is of no ensemble stays."""
    found: dict[str, Any] = {}
    for key, value in results.items():
        found[key] = [_renamed(one, names) for one in value if _kept(one, names)] if isinstance(value, list) else value
    for key in ("over_seeds", "comparisons", "comparisons_over_seeds"):  # a p-value has no mean over seeds
        found.pop(key, None)
    return cast(Results, found)


def _kept(one: Any, names: Mapping[str, str]) -> bool:
    owner = one.get("ensemble", one.get("id")) if isinstance(one, dict) else None
    return owner is None or owner in names


def _renamed(one: Any, names: Mapping[str, str]) -> Any:
    if not isinstance(one, dict):
        return one
    renamed = {
        k: names.get(v, v) if k in ("ensemble", "id", "reference") and isinstance(v, str) else v for k, v in one.items()
    }
    return {**renamed, OWN: one["ensemble"]} if "ensemble" in one else renamed


def combined(every: Sequence[Table], by_seed: Sequence[Sequence[Table]], results: Results) -> list[Table]:
    """Return the tables over seeds, then those of every ensemble, whose names say so; just these without seeds."""
    if not by_seed:
        return list(every)
    found = []
    for first in by_seed[0]:
        same = [next((t for t in tables if t.name == first.name), None) for tables in by_seed]
        if all(same) and (table := _combine([t for t in same if t], results["dataset"]["n"])):
            found.append(table)
    taken = {table.name for table in found}
    each = [replace(t, name=f"{t.name}-{EACH}", title=f"{t.title}, each seed") if t.name in taken else t for t in every]
    return [*found, *each]


def _combine(tables: Sequence[Table], n: int) -> Table | None:
    """Return one table of several that say the same of different seeds; None where their rows are not the same."""
    first = tables[0]
    about = [[[str(cell) for cell in row[: first.lead]] for row in table.rows] for table in tables]
    if any(one != about[0] for one in about) or any(table.columns != first.columns for table in tables):
        return None
    rows = [
        [*row[: first.lead], *(_over([t.rows[at][c] for t in tables], n) for c in range(first.lead, len(row)))]
        for at, row in enumerate(first.rows)
    ]
    if not any(cell.number for row in rows for cell in row[first.lead :]):
        return None
    note = f"Mean {SIGN} standard deviation over {len(tables)} seeds. {first.note}".strip()
    title = f"{first.title} over {len(tables)} seeds"
    return replace(first, title=title, rows=rows, note=note, records=_records(tables))


def _over(cells: Sequence[Cell], n: int) -> Cell:
    """Return mean and standard deviation (ddof=1) of one cell over seeds, and the interval over samples apart.

    The verdict is the worst of all seeds'; a text that is another with every seed, or a number that has no mean with
    the others (a quotient by zero), is left out.
    """
    numbers = [cell.number for cell in cells if cell.number is not None and math.isfinite(cell.number.value)]
    if len(numbers) < len(cells):
        texts = {cell.text for cell in cells}
        return cells[0] if len(texts) == 1 else Cell(f.NONE)
    mean, spread = statistics.fmean(x.value for x in numbers), statistics.stdev(x.value for x in numbers)
    shown = f.Number.of(mean, numbers[0].show)
    text = f"{shown} {SIGN} {numbers[0].show(spread).lstrip('+')}"
    # Only an accuracy's interval is Wilson's; that of an AUROC is in its number and has no mean.
    if all("[" in cell.text for cell in cells) and not any("[" in number for number in numbers):
        text += f" {f.interval(wilson(min(mean / 100 * n, n), n))}"
    verdict = max((cell.verdict for cell in cells if cell.verdict), key=ORDER.index, default=None)
    hint = "; ".join(dict.fromkeys(cell.hint for cell in cells if cell.hint))
    worst = next((cell for cell in cells if verdict and cell.verdict == verdict), Cell(""))
    return Cell(text, verdict, hint, shown, worst.why, worst.said)


def _records(tables: Sequence[Table]) -> list[dict[str, Any]]:
    """Return one record for each number: its row and column, its values by seed in the table's unit, what they give."""
    first, found = tables[0], []
    for at, row in enumerate(first.rows):
        about = {first.columns[c]: str(row[c]) for c in range(first.lead)}
        for c in range(first.lead, len(row)):
            numbers = [table.rows[at][c].number for table in tables]
            values = [number.value for number in numbers if number is not None]
            if len(values) == len(tables) and all(map(math.isfinite, values)):
                found.append({
                    **about, "column": first.columns[c], "mean": statistics.fmean(values),
                    "std": statistics.stdev(values), "values": json.dumps(values),
                })  # fmt: skip
    return found
