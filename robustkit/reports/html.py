"""The report for people: one self-contained HTML file."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from robustkit.records.schema import Results
from robustkit.reports import _answer, report
from robustkit.reports._charts import Chart, charts
from robustkit.reports._checks import headlines
from robustkit.reports._files import write_text
from robustkit.reports._over_seeds import EACH
from robustkit.reports._page import attack_pictures, explorer, sections, words
from robustkit.reports._page.layout import page
from robustkit.reports._page.sections import SCRIPTS, STYLES, Material
from robustkit.reports._table import Table
from robustkit.reports._tables import tables

# The parts that fold, in reading order. Each is function(Material) -> sections, none where it has nothing to show.
SECTIONS: tuple[sections.SectionMaker, ...] = (
    sections.robustness, sections.believe, attack_pictures.images, explorer.samples, sections.transfer,
    sections.minimum_norm, sections.suites,
    sections.ensembles, sections.definitions, sections.cost, sections.each_seed, sections.settings,
    sections.environment, sections.left_over,
)  # fmt: skip


@report("html", title="HTML report")
def html(results: Results, out: Path) -> list[Path]:
    """Write ``report.html``: one file with everything inside, nothing loaded from elsewhere."""
    named = {table.name: table for table in tables(results)}
    shown = Material(results, out, named, _charts(results, named))
    lines = list(headlines(results))
    made = [section for make in SECTIONS for section in make(shown)]
    text = page(
        "report.html.j2",
        f"Robustness report: {results['dataset']['name']}",
        sorted(made, key=lambda section: not section.unfolded),  # what is open comes first
        STYLES,
        SCRIPTS,
        results=results,
        scope=words.scope(results),
        answer=[sentence.replace(_answer.ELSEWHERE, "below") for sentence in _answer.sentences(results)],
        takeaway=words.takeaway(results, lines),
        headlines=lines,
        audit=words.audited(results),
        curves=shown.of("curves"),
        settle=_answer.settling(results),
    )
    return [write_text(out / "report.html", text)]


def _charts(results: Results, shown: dict[str, Table]) -> list[Chart]:
    """Return the charts, those whose numbers are tables of the report with these beside them."""
    return [
        replace(chart, tables=[*chart.tables, *(shown.get(f"{name}-{EACH}") or shown[name] for name in chart.shown)])
        for chart in charts(results)
    ]
