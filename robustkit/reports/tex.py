"""Tables as LaTeX, ready for a paper."""

from __future__ import annotations

from pathlib import Path

from robustkit.records.schema import Results
from robustkit.reports import report
from robustkit.reports._files import write_text
from robustkit.reports._table import Table
from robustkit.reports._tables import tables

_SPECIAL = str.maketrans(
    {c: f"\\{c}" for c in "&%$#_{}"}
    | {"\\": r"\textbackslash{}", "~": r"\textasciitilde{}", "^": r"\textasciicircum{}"}
    | {"\N{PLUS-MINUS SIGN}": r"$\pm$"}
    | {"<": r"\textless{}", ">": r"\textgreater{}", "|": r"\textbar{}", "\n": " "}
)


@report("tex", title="LaTeX tables")
def tex(results: Results, out: Path) -> list[Path]:
    r"""Write every table as ``tables/<name>.tex`` (booktabs), to be read with ``\input``."""
    return [write_text(out / "tables" / f"{table.name}.tex", latex(table)) for table in tables(results)]


def latex(table: Table) -> str:
    """Return one table as a LaTeX float with caption and label ``tab:<name>``."""
    rows = []
    for index, row in enumerate(table.rows):
        rows += [r"\addlinespace"] if table.starts(index) else []
        rows.append(_line([str(cell) for cell in row]))
    caption = f"{table.title}. {table.note}".strip()
    return "\n".join([
        r"% needs \usepackage{booktabs}",
        r"\begin{table}",
        r"\centering",
        rf"\caption{{{_escape(caption)}}}",
        rf"\label{{tab:{table.name}}}",
        rf"\begin{{tabular}}{{{table.align}}}",
        r"\toprule",
        _line(table.columns),
        r"\midrule",
        *rows,
        r"\bottomrule",
        r"\end{tabular}",
        r"\end{table}",
        "",
    ])  # fmt: skip


def _line(texts: list[str]) -> str:
    # A row that starts with [ would be read as the optional argument of the line break before it.
    escaped = [_escape(text) for text in texts]
    return ("{}" if escaped[0].startswith("[") else "") + " & ".join(escaped) + r" \\"


def _escape(text: str) -> str:
    return text.translate(_SPECIAL)
