"""Tables as Markdown."""

from __future__ import annotations

import re
from pathlib import Path

from robustkit.records.schema import Results
from robustkit.reports import report
from robustkit.reports._files import write_text
from robustkit.reports._table import Table
from robustkit.reports._tables import tables


@report("md", title="Markdown tables")
def md(results: Results, out: Path) -> list[Path]:
    """Write every table as ``tables/<name>.md`` (GitHub Markdown)."""
    return [write_text(out / "tables" / f"{table.name}.md", markdown(table)) for table in tables(results)]


def markdown(table: Table) -> str:
    """Return one table as GitHub Markdown: title, table, note."""
    rule = ["---:" if letter == "r" else ":---" for letter in table.align]
    lines = [table.columns, rule, *([str(cell) for cell in row] for row in table.rows)]
    body = [line if line is rule else [escape(text) for text in line] for line in lines]
    parts = [f"### {escape(table.title)}", "\n".join(f"| {' | '.join(line)} |" for line in body)]
    return "\n\n".join([*parts, *([escape(table.note)] if table.note else [])]) + "\n"


def escape(text: str) -> str:
    """Return a text with what Markdown would read as markup escaped, on one line."""
    # Underscores inside words are literal in GitHub Markdown; a name that starts with one is not.
    return re.sub(r"([\\|<>*`#]|(?<!\w)_|_(?!\w))", r"\\\1", " ".join(text.split()))
