"""What came out, as JSON, Markdown, figures and a table in the terminal."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.text import Text

from robustkit.base.files import write_json
from robustkit.base.version import __version__
from robustkit.reports import _format as f
from robustkit.reports._files import write_bytes, write_text
from robustkit.reports._table import Cell, Table, cells
from robustkit.reports.md import markdown
from robustkit.reports.terminal import show_table
from robustkit.reproduce._ask import Ask
from robustkit.reproduce._parts import Comparison, Outcome
from robustkit.reproduce._settings import Difference

SCHEMA_VERSION = 1  # of reproduction.json
JSON, MARKDOWN = "reproduction.json", "reproduction.md"


@dataclass(frozen=True)
class Reproduced:
    """A reproduction that is done: what was asked, what came out, what was not as in the paper, and where it lies."""

    ask: Ask
    outcome: Outcome
    differences: list[Difference]
    evaluations: list[Path]

    def to_json(self) -> dict[str, Any]:
        """Return what ``reproduction.json`` holds; numbers are in the paper's unit, which each row names."""
        facts, out = self.ask.entry.facts, self.ask.out
        return {
            "schema_version": SCHEMA_VERSION,
            "robustkit_version": __version__,
            "name": self.ask.entry.name,
            "title": facts["title"],
            "source": facts["source"],
            "dataset": self.ask.dataset,
            "stands_for": self.ask.stands_for,
            "scale": self.ask.scale,
            "seed": self.ask.seed,
            "command": self.ask.command,
            "comparisons": [c.to_json() for c in self.outcome.comparisons],
            "claims": [c.to_json() for c in self.outcome.claims],
            "settings_that_differ": [d.to_json() for d in self.differences],
            "figures": [f"figures/{d.name}.png" for d in self.outcome.drawings],
            "evaluations": [str(path.relative_to(out)) for path in self.evaluations],
            "note": self.outcome.note,
        }


def write(done: Reproduced) -> Path:
    """Write figures, Markdown and, last, the JSON; return the path of the Markdown."""
    out = done.ask.out
    for drawing in done.outcome.drawings:
        write_bytes(out / "figures" / f"{drawing.name}.png", drawing.png())
        write_bytes(out / "figures" / f"{drawing.name}.svg", drawing.svg())
    page = write_text(out / MARKDOWN, document(done))
    write_json(out / JSON, done.to_json())
    return page


def document(done: Reproduced) -> str:
    """Return the page as GitHub Markdown."""
    facts, ask = done.ask.entry.facts, done.ask
    head = [f"# {facts['title']}", f"{facts['source']}. Made by", f"    {ask.command}"]
    pictures = [f"![{d.alt}](figures/{d.name}.png)" for d in done.outcome.drawings]
    links = [f"[{path.name}]({path.relative_to(ask.out)}/report.html)" for path in done.evaluations]
    tail = [f"Evaluations in full, with verdicts and their reasons: {', '.join(links)}."] if links else []
    parts = [markdown(t).rstrip() if t.rows else f"### {t.title}\n\n{t.note}" for t in tables(done)]
    return "\n\n".join([*head, *parts, *pictures, *tail]) + "\n"


def show(done: Reproduced, console: Console) -> None:
    """Print the tables."""
    console.print(Text(done.ask.entry.facts["title"], style="bold"), end="\n\n")
    for table in tables(done):
        if table.rows:
            show_table(table, console)
        else:
            console.print(Text(f"{table.title}: {table.note}"), end="\n\n")


def tables(done: Reproduced) -> list[Table]:
    """Return the comparison, the claims where there are any, and the settings that differ."""
    found = [comparison_table(done.outcome)]
    if done.outcome.claims:
        rows = [cells(c.paper, c.measured, "yes" if c.holds else "no") for c in done.outcome.claims]
        found.append(Table("claims", "What the paper says", ["the paper", "here", "agrees"], "lll", rows, lead=0))
    rows = [cells(d.setting, f.plain(d.paper), f.plain(d.ours)) for d in done.differences]
    note = (
        "Computed from the records of what ran."
        if rows
        else "None: every setting that the paper states is the paper's."
    )
    columns = ["setting", "paper", "here"]
    found.append(Table("settings", "Settings that differ from the paper's", columns, "lll", rows, note, lead=0))
    return found


def comparison_table(outcome: Outcome) -> Table:
    """Return the paper's numbers, ours, and the differences, a row each."""
    rows = [
        [
            *cells(c.row, c.column, _paper(c, outcome.decimals)),
            Cell(_ours(c, outcome.decimals), c.verdict),
            Cell(_signed(c.difference, outcome.decimals)),
        ]
        for c in outcome.comparisons
    ]
    unit = {c.unit for c in outcome.comparisons}
    mentioned = [f"In {' and '.join(sorted(u for u in unit if u))}." if any(unit) else "", outcome.note]
    if any(c.ci95 for c in outcome.comparisons):
        mentioned.insert(1, f"Ours with {outcome.interval} 95 % interval.")
    if any(c.own_spread is not None for c in outcome.comparisons):
        mentioned.append("After +-, the standard deviation.")
    if any(c.verdict for c in outcome.comparisons):
        mentioned.append(f"Verdicts: {f.LEGEND}.")
    columns = ["what", "ensemble", "paper", "ours", "difference"]
    note = " ".join(text for text in mentioned if text)
    return Table("comparison", "Paper and here", columns, "llrrr", rows, note, lead=2, grouped=True)


def _paper(c: Comparison, decimals: int) -> str:
    if c.paper is None:
        return f.NONE
    return f"{c.paper:.{decimals}f}" + ("" if c.spread is None else f" +- {c.spread:.{decimals}f}")


def _ours(c: Comparison, decimals: int) -> str:
    if c.ours is None:
        return f.NONE
    interval = "" if c.ci95 is None else f" [{c.ci95[0]:.{decimals}f}, {c.ci95[1]:.{decimals}f}]"
    spread = "" if c.own_spread is None else f" +- {c.own_spread:.{decimals}f}"
    return f"{c.ours:.{decimals}f}{spread}{interval}"


def _signed(value: float | None, decimals: int) -> str:
    if value is None:
        return f.NONE
    text = f"{value:+.{decimals}f}"
    return text.lstrip("+-") if float(text) == 0 else text
