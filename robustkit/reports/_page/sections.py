"""The parts of a report's page, in reading order: each a function of what there is to show."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from robustkit.records.schema import Results
from robustkit.reports import _suites
from robustkit.reports._charts import Chart
from robustkit.reports._checks import headlines
from robustkit.reports._over_seeds import EACH
from robustkit.reports._page import facts
from robustkit.reports._page.entries import Judged, entries, judged, passed
from robustkit.reports._page.layout import Section, embedded, of_table, part
from robustkit.reports._sample_arrays import SampleTable, read_arrays
from robustkit.reports._table import Table

STYLES, SCRIPTS = ("_charts.css",), ("_charts.js",)  # of a part with charts
OWN = ("ensembles", "robustness", "worst-case", "union", "minimum-norm")  # whose tables of single seeds stand together


@dataclass(frozen=True)
class Material:
    """What a page is made of: the results, the folder that it is written into, its tables by name, its charts."""

    results: Results
    out: Path
    tables: dict[str, Table]
    charts: list[Chart]

    def of(self, kind: str) -> list[Chart]:
        """Return the charts of a kind: ``curves``, ``transfer``, or the name of a suite."""
        return [chart for chart in self.charts if chart.kind == kind]

    @cached_property
    def shown(self) -> set[str]:
        """The names of the tables that a section has shown; what is left has a section of its own at the end."""
        return set()

    @cached_property
    def samples(self) -> SampleTable | None:
        """The table of samples that lies beside the page, read once for all that is made of it."""
        return read_arrays(self.results, self.out)

    def show(self, *names: str) -> list[Table]:
        """Return the tables of these names that there are, and note that they are shown."""
        found = [self.tables[name] for name in names if name in self.tables]
        self.shown.update(table.name for table in found)
        return found


SectionMaker = Callable[[Material], Iterable[Section]]


def robustness(m: Material) -> Iterator[Section]:
    """Yield robust accuracies, the worst cases over attacks, and differences between ensembles."""
    m.show("robustness", "worst-case", "union", "comparisons", "comparisons-over-seeds", "comparisons-attacks")
    m.show("escalation", "optimality")
    there = bool({"robustness", "worst-case"} & set(m.tables))
    yield Section("robustness", "Robust accuracy", part("_robustness.html.j2", tables=m.tables), unfolded=there)


def believe(m: Material) -> Iterator[Section]:
    """Yield the checks: one entry each, with its value for every number."""
    m.show("checks")
    yield of_numbers(judged(m.results))


def of_numbers(numbers: Sequence[Judged]) -> Section:
    """Return the section on whether numbers can be believed."""
    found = entries(numbers)
    chained = any(len(number.failed) > 1 for number in numbers)
    body = part("_believe.html.j2", numbers=numbers, entries=found, passed=passed(numbers), chained=chained)
    return Section("believe", "Can these numbers be believed?", body, unfolded=bool(numbers))


def minimum_norm(m: Material) -> Iterator[Section]:
    """Yield the smallest perturbations found."""
    for table in m.show("minimum-norm"):
        yield of_table(table)


def ensembles(m: Material) -> Iterator[Section]:
    """Yield what was evaluated."""
    for table in m.show("ensembles"):
        yield of_table(table)


def definitions(m: Material) -> Iterator[Section]:
    """Yield what the words mean, and how a number is cited."""
    body = part("_definitions.html.j2", results=m.results, headlines=list(headlines(m.results)))
    yield Section("definitions", "Definitions, and how to cite a number", body)


def cost(m: Material) -> Iterator[Section]:
    """Yield the sizes of perturbations and what runs cost."""
    for table in m.show("perturbations"):
        yield of_table(table)


def each_seed(m: Material) -> Iterator[Section]:
    """Yield the tables of single seeds, where a study is over several."""
    found = m.show(*(name for name in m.tables if name.endswith(f"-{EACH}") and name.removesuffix(f"-{EACH}") in OWN))
    if found:
        yield Section("each-seed", "Each seed", part("_tables.html.j2", tables=found))


def settings(m: Material) -> Iterator[Section]:
    """Yield the settings of every ensemble and attack."""
    yield Section("settings", "Settings", part("_pairs.html.j2", items=facts.settings(m.results)))


def environment(m: Material) -> Iterator[Section]:
    """Yield what identifies this run."""
    yield Section("environment", "Environment", part("_pairs.html.j2", items=facts.facts(m.results)))


def suites(m: Material) -> Iterator[Section]:
    """Yield a section for each further suite that ran: the table that bears its name, charts, pictures, details.

    Where no attack ran, the first of them is what the run was for, and open.
    """
    first = "" if m.results["evaluations"] else next((name for name in _suites.SUITES if name in m.tables), "")
    for name in _suites.SUITES:
        if name not in m.tables:
            continue
        charts = m.of(name)
        beside = {table.name for chart in charts for table in chart.tables}
        table, *more = m.show(name, *(other for other in m.tables if other.startswith(f"{name}-")))
        details = [other for other in more if other.name not in beside]
        sheets = [
            {"title": s.title, "alt": s.alt, "source": embedded("image/png", s.file.read_bytes())}
            for s in _suites.sheets(m.results, name, m.out)
        ]
        body = part("_suite.html.j2", table=table, details=details, charts=charts, sheets=sheets)
        yield Section(name, table.title, body, name == first, STYLES, SCRIPTS)


def transfer(m: Material) -> Iterator[Section]:
    """Yield the matrices of transfer between members."""
    if m.results["transfer"]:
        tables = m.show(*(name for name in m.tables if name.startswith("transfer-")))
        each = any(table.name.endswith(EACH) for table in tables)
        means = [table for table in tables if each and not table.name.endswith(EACH)]
        charts = m.of("transfer")
        body = part("_transfer.html.j2", charts=charts, means=means, surrogates=m.results["surrogates"])
        yield Section("transfer", "Transfer between members", body, styles=STYLES, scripts=SCRIPTS)


def left_over(m: Material) -> Iterator[Section]:
    """Yield a section for every table that no other has shown."""
    for name in [name for name in m.tables if name not in m.shown]:
        (table,) = m.show(name)
        yield of_table(table)
