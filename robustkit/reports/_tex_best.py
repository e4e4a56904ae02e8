"""Which numbers of a table are bold: the highest of its like, and what a paired test does not tell from it.

Robust accuracies only fall as attacks get better, so that a suspect or invalid one may be far too high: where the
highest is one, nothing is bold, and no other of them is. Where every number would be, none is.
"""

from __future__ import annotations

import csv
import hashlib
import io
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt

from robustkit.functional.paired import compare, holm, paired_t
from robustkit.records.schema import Results
from robustkit.reports._checks import runs_of
from robustkit.reports._comparisons import LEVEL
from robustkit.reports._format import NONE
from robustkit.reports._labels import budget, budget_text, labeller
from robustkit.reports._sample_arrays import read_arrays
from robustkit.reports._table import Cell, Table

Doubles = npt.NDArray[np.float64]
Places = frozenset[tuple[int, int]]  # (row, column) of bold cells
Scores = Mapping[tuple[str, ...], Mapping[str, Doubles]]  # clean, a budget, or a budget and an attack: by ensemble
Standing = tuple[Doubles, list[tuple[str, str, Doubles]]]  # clean; budget, attack and correctness of each run
Test = Callable[[Doubles, Doubles], float]  # of what two ensembles scored, to a p-value
CLEAN = ("clean",)
DOUBTED = ("suspect", "invalid")
RULE = (
    "Bold: the highest of a {line}, and what {test} does not tell from it; none where that is all of them, or where "
    "the highest is suspect or invalid."
)
SAMPLES = "a paired test over samples (McNemar's exact, by Holm, 5 %)"
SEEDS = "a paired t test over seeds (by Holm, 5 %)"


def by_samples(first: Doubles, second: Doubles) -> float:
    """Return the p-value of two ensembles' correctness on the same samples, (N,) and (N,)."""
    return compare(first, second).p


def winners(cells: Mapping[str, Cell], scores: Mapping[str, Doubles], test: Test) -> set[str]:
    """Return which of some ensembles' numbers are bold; none where one was not measured sample by sample."""
    there = {name: cell for name, cell in cells.items() if cell.text != NONE}
    if len(there) < 2 or not there.keys() <= scores.keys():
        return set()
    top = max(there, key=lambda name: float(scores[name].mean()))
    others = [name for name in there if name != top]
    adjusted = holm([test(scores[top], scores[name]) for name in others])
    equal = [name for name, p in zip(others, adjusted, strict=True) if p >= LEVEL]
    if len(equal) == len(others) or there[top].verdict in DOUBTED:
        return set()
    return {top, *(name for name in equal if there[name].verdict not in DOUBTED)}


def in_rows(table: Table, scores: Scores, test: Test) -> Places:
    """Return the bold cells of a table with a column for each ensemble, whose first columns are the scores' keys."""
    found = set()
    for row, line in enumerate(table.rows):
        own = scores.get(tuple(cell.text for cell in line[: table.lead]), {})
        cells = {name: line[at] for at, name in enumerate(table.columns) if at >= table.lead and name in own}
        found |= {(row, table.columns.index(name)) for name in winners(cells, own, test)}
    return frozenset(found)


def in_columns(table: Table, keys: Mapping[int, tuple[str, ...]], scores: Scores, test: Test) -> Places:
    """Return the bold cells of a table with a row for each ensemble, given the scores' key of each column."""
    found = set()
    for at, key in keys.items():
        cells = {line[0].text: line[at] for line in table.rows}
        names = [line[0].text for line in table.rows]
        found |= {(names.index(name), at) for name in winners(cells, scores.get(key, {}), test)}
    return frozenset(found)


def best(tables: Sequence[Table], results: Results, out: Path) -> tuple[dict[str, Places], dict[str, str]]:
    """Return the bold cells of a report's tables and the rule for each that is tested, by its name.

    The samples are those of ``samples.npz`` below ``out``; over seeds the numbers of each seed are compared.
    """
    seeds = bool(results.get("over_seeds"))
    n = results["dataset"]["n"]
    scores = _of_seeds(results) if seeds else _of_samples(results, out)
    test: Test = (lambda x, y: paired_t(x - y, n)[2]) if seeds else by_samples
    places, rules = {}, {}
    for table in tables:
        by_row = table.name in ("robustness", "worst-case")
        if not (by_row or table.name == "ensembles") or not any(len(own) > 1 for own in scores.values()):
            continue
        column = {at: CLEAN for at, head in enumerate(table.columns) if head == "clean accuracy %"}
        places[table.name] = in_rows(table, scores, test) if by_row else in_columns(table, column, scores, test)
        rules[table.name] = RULE.format(line="row" if by_row else "column", test=SEEDS if seeds else SAMPLES)
    return places, rules


def _of_seeds(results: Results) -> Scores:
    """Return the accuracies by seed of every group of ensembles that has one for each of the same seeds."""
    label, found = labeller(results), dict[tuple[str, ...], dict[str, Doubles]]()
    most = max((len(one["seeds"]) for one in results["over_seeds"]), default=0)
    for one in results["over_seeds"]:
        at = budget_text(one["eps"], one["norm"])
        kinds = {"accuracy": CLEAN, "worst_case": (at,)}
        key = kinds.get(one["metric"]) or (at, label(one))
        if len(one["seeds"]) == most:
            order = np.argsort(one["seeds"])
            found.setdefault(key, {})[one["group"]] = np.asarray(one["values"])[order]
    return found


def _of_samples(results: Results, out: Path) -> Scores:
    """Return how likely each ensemble is right on each sample; nothing where no file is that of the results."""
    if len(results["ensembles"]) < 2:
        return {}
    found: dict[tuple[str, ...], dict[str, Doubles]] = {}
    budgets = sorted({budget(e) for e in results["evaluations"]})
    for name, (clean, runs) in (_of_arrays(results, out) or _of_csv(results, out)).items():
        found.setdefault(CLEAN, {})[name] = clean
        for eps, norm in budgets:
            within = [budget_text(*b) for b in budgets if b[1] == norm and b[0] <= eps]
            if any(at == within[-1] for at, _, _ in runs):
                least = np.minimum.reduce([right for at, _, right in runs if at in within])
                found.setdefault((within[-1],), {})[name] = least
        for at, attack, right in runs:
            found.setdefault((at, attack), {}).setdefault(name, right)
    return found


def _of_arrays(results: Results, out: Path) -> dict[str, Standing]:
    """Return of each ensemble what stands in ``samples.npz``; nothing where that is not there."""
    table, label = read_arrays(results, out), labeller(results)
    return {
        one.ensemble: (one.clean, [
            (budget_text(*budget(e)), label(e), right)
            for e, right in zip(runs_of(results, one.ensemble), one.attacked, strict=True)
        ])
        for one in (table.outcomes if table else ())
    }  # fmt: skip


def _of_csv(results: Results, out: Path) -> dict[str, Standing]:
    """Return the same from ``samples.csv``, beside which runs of older versions have no arrays."""
    said = results.get("samples")
    path = out / said["file"] if said else None
    if path is None or said is None or not path.is_file():
        return {}
    content = path.read_bytes()
    if hashlib.sha256(content).hexdigest() != said["sha256"]:
        return {}
    rows = list(csv.reader(io.StringIO(content.decode(), newline="")))
    columns = {name: at for at, name in enumerate(rows[0])}
    by: dict[str, list[list[str]]] = {}
    for row in rows[1:]:
        by.setdefault(row[columns["ensemble"]], []).append(row)
    return {name: (_right(own, columns["clean_broken"]), _runs(columns, own)) for name, own in by.items()}


def _runs(columns: Mapping[str, int], rows: Sequence[Sequence[str]]) -> list[tuple[str, str, Doubles]]:
    """Return budget, attack and correctness of every run of an ensemble."""
    found = []
    for name, at in columns.items():
        if name.startswith("broken ") and rows[0][at]:
            attack, _, where = name.removeprefix("broken ").rpartition(" @ ")
            found.append((where.partition(" (")[0], attack, _right(rows, at)))
    return found


def _right(rows: Sequence[Sequence[str]], at: int) -> Doubles:
    return np.asarray([1 - float(row[at]) for row in rows])
