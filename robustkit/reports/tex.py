r"""Tables as LaTeX, ready for a paper: one file of all of them, single ones on request.

They need booktabs and array. Numbers are aligned at their decimal points (:mod:`_tex_numbers` says why not by
siunitx), verdicts are marks that a note below the table explains, the best of a row is bold where a paired test tells
so (:mod:`_tex_best`), and what is too wide or too long is cut into parts (:mod:`_tex_layout`).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from robustkit.records.schema import Numbers, Results
from robustkit.reports import report
from robustkit.reports._files import write_text
from robustkit.reports._table import Cell, Table
from robustkit.reports._tables import tables
from robustkit.reports._tex_best import Places, best
from robustkit.reports._tex_caption import MARKS, caption, legend, named, note, term
from robustkit.reports._tex_layout import TALL, Layout, Part, cell_texts, head_lines, layout, width
from robustkit.reports._tex_numbers import Parts, aligned, plain
from robustkit.reports._tex_text import breakable, escape

FILE = "tables.tex"
NEEDS = r"% needs \usepackage{array,booktabs}"
WAITING = 12  # floats; LaTeX keeps 18 to 52, and gives up after 100 pages that it could not fill
_TABULAR = r"\begin{tabular}"


@dataclass(frozen=True)
class Style:
    """How tables are written: with verdict marks or without, which cells are bold and by which rule, by table."""

    marks: bool = True
    bold: Mapping[str, Places] = field(default_factory=dict)
    rules: Mapping[str, str] = field(default_factory=dict)


@report("tex", title="LaTeX tables")
def tex(results: Results, out: Path, *, marks: bool = True) -> list[Path]:
    r"""Write all tables as ``tables/tables.tex`` (array, booktabs), to be read with ``\input`` or copied from.

    Single files that an earlier report left there are written again, so that no ``\input`` shows old numbers.
    """
    every = tables(results)
    return write_tables(every, results, out, Style(marks, *best(every, results, out)))


@report("tex-each", title="LaTeX tables, a file each")
def tex_each(results: Results, out: Path, *, marks: bool = True) -> list[Path]:
    r"""Write every table as ``tables/<name>.tex`` (array, booktabs), to be read with ``\input``."""
    every = tables(results)
    return write_each(every, results, out, Style(marks, *best(every, results, out)))


def write_tables(every: Sequence[Table], numbers: Numbers | None, out: Path, style: Style) -> list[Path]:
    """Write one file of all tables, and again the single ones that are there."""
    if not every:
        return []
    old = [table for table in every if (out / "tables" / f"{table.name}.tex").is_file()]
    whole = write_text(out / "tables" / FILE, document(every, numbers, style))
    return [whole, *write_each(old, numbers, out, style)]


def write_each(every: Sequence[Table], numbers: Numbers | None, out: Path, style: Style) -> list[Path]:
    """Write a file for each table."""
    return [
        write_text(out / "tables" / f"{table.name}.tex", f"{NEEDS}\n{latex(table, numbers, style)}") for table in every
    ]


def document(every: Sequence[Table], numbers: Numbers | None, style: Style) -> str:
    r"""Return all tables after a list of their labels, with a ``\clearpage`` before too many floats wait for a page."""
    written = [NEEDS, *(f"% tab:{table.name}: {' '.join(table.title.split())}" for table in every), ""]
    waiting = 0
    for table in every:
        text = latex(table, numbers, style)
        waiting += text.count(r"\caption{")
        if waiting > WAITING:
            written.append("\\clearpage\n")
            waiting = text.count(r"\caption{")
        written.append(text)
    return "\n".join(written)


def latex(table: Table, numbers: Numbers | None = None, style: Style | None = None) -> str:
    """Return one table as LaTeX floats with caption and label ``tab:<name>``; of more than one, one number.

    Parameters
    ----------
    numbers : Numbers or None
        What the caption says of data, budgets and attacks; None: the title alone.
    """
    style = style or Style()
    plan, above = layout(table), caption(table, numbers) if numbers else named(table) + "."
    return "\n".join(_float(table, plan, at, above, style) for at in range(len(plan.floats)))


def _float(table: Table, plan: Layout, at: int, above: str, style: Style) -> str:
    parts, kind = plan.floats[at], "table*" if plan.wide else "table"
    again, count = at > 0, len(plan.floats)
    tall = sum(part.lines for part in parts) > TALL
    below = [note(table), escape(style.rules.get(table.name, ""))] if not again else []
    if style.marks:
        below.append(legend(table.rows[row][c] for part in parts for row in part.rows for c in part.columns))
    said = " ".join(text for text in below if text)
    tabulars = "\n\n\\medskip\n".join("\n".join(_tabular(table, part, style)) for part in parts)
    return "\n".join([
        rf"\begin{{{kind}}}[{'tp' if tall else 't'}]",
        *([r"\addtocounter{table}{-1}"] if again else []),
        r"\centering\footnotesize\setlength{\tabcolsep}{4pt}",
        rf"\caption{{{above if not again else f'{named(table)} (continued, {at + 1} of {count}).'}}}",
        *([rf"\label{{tab:{table.name}}}"] if not again else []),
        tabulars,
        *([rf"\par\smallskip\begin{{minipage}}{{\linewidth}}\footnotesize {said}\end{{minipage}}"] if said else []),
        rf"\end{{{kind}}}",
        "",
    ])  # fmt: skip


def _tabular(table: Table, part: Part, style: Style) -> Iterator[str]:
    columns = list(_columns(table, part, style))
    letters = [
        rf">{{\raggedright\arraybackslash}}p{{{room:.0f}pt}}" if room else table.align[at]
        for at, room in zip(part.columns, part.widths, strict=True)
    ]
    yield f"{_TABULAR}{{{''.join(letters)}}}"
    yield r"\toprule"
    yield _line([_head(table, at, room) for at, room in zip(part.columns, part.widths, strict=True)])
    yield r"\midrule"
    for place, row in enumerate(part.rows):
        if table.starts(row) and place:
            yield r"\addlinespace"
        yield _line([column[place] for column in columns])
    yield r"\bottomrule"
    yield r"\end{tabular}"


def _columns(table: Table, part: Part, style: Style) -> Iterator[list[str]]:
    """Yield the cells of each column as LaTeX."""
    bold = style.bold.get(table.name, frozenset())
    for at, room in zip(part.columns, part.widths, strict=True):
        cells = [table.rows[row][at] for row in part.rows]
        if table.align[at] == "r":
            texts = aligned([cell.text for cell in cells], [(row, at) in bold for row in part.rows])
        else:
            texts = [breakable(_words(cell.text)) if room else _words(cell.text) for cell in cells]
        yield [text + _mark(cell, style) for text, cell in zip(texts, cells, strict=True)]


def _words(text: str) -> str:
    return term(text) or plain(text)


def _mark(cell: Cell, style: Style) -> str:
    """Return the mark of a number that is not trusted, without a width, so that the column stays aligned."""
    if not style.marks or cell.verdict not in MARKS or cell.text == cell.verdict:
        return ""
    return rf"\rlap{{$^{{{MARKS[cell.verdict]}}}$}}"


def _head(table: Table, at: int, room: float | None) -> str:
    """Return a column's head: wrapped, and centred above numbers of several parts."""
    text, texts = table.columns[at].replace(" - ", " − "), cell_texts(table, at)
    if room or term(text):
        return _words(text)
    lines = head_lines(text, max([width(t) for t in texts] + [width(line) for line in head_lines(text, 0.0)]))
    several = any((one := Parts.of(row[at].text)) and len(one.numbers) > 1 for row in table.rows)
    letter = "c" if several and table.align[at] == "r" else table.align[at]
    head = escape(lines[0]) if len(lines) == 1 else (
        f"{_TABULAR}[b]{{@{{}}{letter}@{{}}}}" + r"\\".join(map(escape, lines)) + r"\end{tabular}"
    )  # fmt: skip
    return rf"\multicolumn{{1}}{{c}}{{{head}}}" if letter == "c" else head


def _line(cells: list[str]) -> str:
    # A row that starts with [ or * would be read as an argument of the line break before it.
    return ("{}" if cells[0].startswith(("[", "*")) else "") + " & ".join(cells) + r" \\"
