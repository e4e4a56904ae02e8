"""The report for people: one self-contained HTML file."""

from __future__ import annotations

from pathlib import Path

from robustkit.records.schema import Results
from robustkit.reports import _answer, _attack_pictures, _explorer, _sections, _words, report
from robustkit.reports._checks import headlines
from robustkit.reports._files import write_text
from robustkit.reports._page import Chart, embedded, page
from robustkit.reports._sections import Material
from robustkit.reports._tables import tables

# The parts that fold, in reading order. Each is function(Material) -> sections, none where it has nothing to show.
SECTIONS: tuple[_sections.SectionMaker, ...] = (
    _sections.robustness, _sections.believe, _attack_pictures.images, _explorer.samples, _sections.transfer,
    _sections.minimum_norm, _sections.suites,
    _sections.ensembles, _sections.definitions, _sections.cost, _sections.each_seed, _sections.settings,
    _sections.environment, _sections.left_over,
)  # fmt: skip


@report("html", title="HTML report")
def html(results: Results, out: Path) -> list[Path]:
    """Write ``report.html``: one file with everything inside, nothing loaded from elsewhere."""
    shown = Material(results, out, {table.name: table for table in tables(results)}, charts(results))
    lines = list(headlines(results))
    text = page(
        "report.html.j2",
        f"Robustness report: {results['dataset']['name']}",
        [section for make in SECTIONS for section in make(shown)],
        results=results,
        scope=_words.scope(results),
        answer=_answer.sentences(results),
        takeaway=_words.takeaway(results, lines),
        headlines=lines,
        audit=_words.audited(results),
        curves=shown.of("curves"),
        settle=_answer.settling(results),
    )
    return [write_text(out / "report.html", text)]


def charts(results: Results) -> list[Chart]:
    """Return the figures as they stand in the page."""
    from markupsafe import Markup

    from robustkit.reports._figures import drawings

    found = []
    for d in drawings(results):
        drawn = Markup('<img src="{}" alt="{}">').format(embedded("image/svg+xml", d.svg()), d.alt)
        found.append(Chart(d.name, d.kind, d.alt, d.alt, drawn))
    return found
