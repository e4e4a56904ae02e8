"""Stored evaluations below a folder in one table, by verdict, and of one verdict by the worst case."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from robustkit.base.budgets import union_text
from robustkit.base.errors import UserError
from robustkit.base.files import writable
from robustkit.base.options import budget_text
from robustkit.records.schema import ORDER, EnsembleResult, Numbers, UnionCase, WorstCase
from robustkit.reports import _format as f
from robustkit.reports._across import united
from robustkit.reports._checks import headline_budget, headlines
from robustkit.reports._files import write_text
from robustkit.reports._labels import budget
from robustkit.reports._page.layout import page
from robustkit.reports._table import Table, cells
from robustkit.reports._tables import share
from robustkit.reports.json_file import load_numbers

RESULTS, PAGE = "results.json", "report.html"
COLUMNS = [
    "rank", "model", "verdict", "worst case %", "eps", "clean %", "strongest attack", "data", "n", "members",
    "robustkit", "folder",
]  # fmt: skip


@dataclass(frozen=True)
class Entry:
    """One model of one stored evaluation, at one budget; ``worst`` is None where it was not attacked."""

    folder: Path
    numbers: Numbers
    ensemble: EnsembleResult
    worst: WorstCase | None
    strongest: str

    @property
    def union(self) -> UnionCase | None:
        """Who withstands all norms, of the largest budgets that go with that of the worst case; None of one norm."""
        if self.worst is None:
            return None
        norm, eps = self.worst["norm"], self.worst["eps"]
        every = [u for u in self.numbers.get("union", ()) if u["ensemble"] == self.ensemble["id"]]
        return next((u for u in reversed(every) if u["budgets"].get(norm) == eps), None)

    @property
    def union_budgets(self) -> str:
        """The budgets of :attr:`union` in words; ``-`` where there is none."""
        return union_text(self.union["budgets"]) if self.union else f.NONE

    @property
    def place(self) -> tuple[int, float]:
        """By which entries are ranked, the lowest first."""
        if self.worst is None:
            return len(ORDER), 0.0
        return ORDER.index(self.worst["verdict"]), -self.worst["robust_accuracy"]


@dataclass(frozen=True)
class Leaderboard:
    """Ranked entries, and what could not be read, a sentence each."""

    folder: Path
    entries: list[Entry]
    unread: list[str]

    @property
    def mixed(self) -> list[str]:
        """What keeps the numbers from being compared row by row: other images, other budgets."""
        attacked = [entry for entry in self.entries if entry.worst]
        images = {entry.numbers["dataset"]["sha256"] for entry in attacked}
        budgets = {budget(entry.worst) for entry in attacked if entry.worst}
        unions = {entry.union_budgets for entry in attacked if entry.union}
        counts = {"images": len(images), "budgets": len(budgets), "budgets of all norms": len(unions)}
        return [what for what, count in counts.items() if count > 1]

    @property
    def several_norms(self) -> bool:
        """Whether a model was evaluated in several norms."""
        return any(entry.union for entry in self.entries)


def leaderboard(folder: Path | str, eps: float | None = None, norm: str | None = None) -> Leaderboard:
    """Read every ``results.json`` below a folder, at a budget or at each evaluation's headline.

    Raises
    ------
    UserError
        If there is none that can be read, or none at this budget, naming those there are.
    """
    folder = Path(folder)
    if not folder.is_dir():
        raise UserError(f"'{folder}' is no folder; give one with evaluations or audits below it.")
    paths = sorted(folder.rglob(RESULTS))
    if not paths:
        raise UserError(f"'{folder}' holds no {RESULTS}; give a folder with evaluations or audits below it.")
    entries: list[Entry] = []
    unread, budgets = list(_interrupted(folder)), set[tuple[str, float]]()
    for path in paths:
        try:
            numbers = load_numbers(path)
        except UserError as error:
            unread.append(str(error))
            continue
        budgets |= {(w["norm"], w["eps"]) for w in numbers["worst_case"]}
        own = list(_entries(path.parent, numbers, eps, norm))
        if not own and eps is not None:
            unread.append(f"'{path.parent}' was not run at eps {_asked(eps, norm)}.")
        entries += own
    if not entries and eps is not None and budgets:
        there = ", ".join(budget_text(eps, norm) for norm, eps in sorted(budgets))
        raise UserError(
            f"--eps {_asked(eps, norm)} was run by none of the evaluations below '{folder}'; there are {there}."
        )
    if not entries:
        raise UserError(unread[0] if unread else f"the evaluations below '{folder}' hold no model.")
    return Leaderboard(folder, sorted(entries, key=lambda entry: entry.place), unread)


def _interrupted(folder: Path) -> Iterator[str]:
    """Yield a sentence for each evaluation that has runs and no results yet."""
    for path in sorted(folder.rglob("runs/study.json")):
        if not (path.parents[1] / RESULTS).is_file():
            yield f"'{path.parents[1]}' has runs, but no {RESULTS}: run it again, or `robustkit report` it."


def _asked(eps: float, norm: str | None) -> str:
    return f"{eps:.6g}" + (f" {norm}" if norm else "")


def _entries(folder: Path, numbers: Numbers, eps: float | None, norm: str | None) -> Iterator[Entry]:
    if eps is None:
        yield from (Entry(folder, numbers, h.ensemble, h.worst, h.strongest) for h in headlines(numbers))
        return
    for w in numbers["worst_case"]:
        if abs(w["eps"] - eps) <= 1e-9 and norm in (None, w["norm"]):
            ensemble = next(e for e in numbers["ensembles"] if e["id"] == w["ensemble"])
            at = headline_budget(numbers)
            strongest = {h.ensemble["id"]: h.strongest for h in headlines(numbers)} if at == budget(w) else {}
            yield Entry(folder, numbers, ensemble, w, strongest.get(w["ensemble"], ""))


def table(found: Leaderboard) -> Table:
    """Return the ranking as a table for a terminal."""
    rows, several = [], found.several_norms
    for rank, entry in enumerate(found.entries, 1):
        w, data, e = entry.worst, entry.numbers["dataset"], entry.ensemble
        where = os.path.relpath(entry.folder, found.folder)
        rows.append([
            *cells(str(rank), e["id"], w["verdict"] if w else f.NONE), share(w),
            *cells(budget_text(*budget(w)) if w else f.NONE, f.percent(e["accuracy"]), entry.strongest or f.NONE),
            *([united(entry.union), *cells(entry.union_budgets)] if several else ()),
            *cells(data["name"], str(data["n"]), f"{e['members']} x {e['arch']}"),
            *cells(entry.numbers["robustkit_version"], where),
        ])  # fmt: skip
    title = f"{len(rows)} models below {found.folder}"
    at = COLUMNS.index("data")
    columns = [*COLUMNS[:at], *(["robust to all %", "of"] if several else ()), *COLUMNS[at:]]
    align = "rllrlrl" + ("rl" if several else "") + "lrlll"
    return Table("leaderboard", title, columns, align, rows, note(found), 2)


def note(found: Leaderboard) -> str:
    """Return how the ranking is made, and what it does not say."""
    said = "By verdict, then by the worst case over all attacks, with its Wilson 95 % interval."
    if found.several_norms:
        said += (
            " Robust to all: what no attack broke in any of several norms, of the verdict of the worst rated of them."
        )
    if found.mixed:
        mixed = " or ".join(found.mixed)
        said += f" The models were not all evaluated on the same {mixed}: ranks across these say little."
    return " ".join([said, *(f"Left out: {sentence}" for sentence in found.unread)])


def write(found: Leaderboard, path: Path, *, marks: bool = True) -> Path:
    """Write the page, whose columns sort at a click; links lead to the reports that lie beside the results.

    Where the path ends in ``.tex`` a LaTeX table is written instead, with ``marks`` on what is not trusted.
    """
    writable(path.parent, "--out")
    if path.suffix == ".tex":
        from robustkit.reports.tex import NEEDS, Style, latex

        return write_text(path, f"{NEEDS}\n{latex(table(found), style=Style(marks))}")
    rows = []
    for entry in found.entries:
        at = os.path.relpath(entry.folder / PAGE, path.parent)
        link = Path(at).as_posix() if (entry.folder / PAGE).is_file() else ""
        rows.append({"entry": entry, "link": link, "where": os.path.relpath(entry.folder, found.folder)})
    order = {verdict: at for at, verdict in enumerate(ORDER)}
    text = page(
        "leaderboard.html.j2", "Robustness leaderboard", styles=["_board.css"], scripts=["_board.js"], found=found,
        rows=rows, note=note(found), order=order, last=len(ORDER),
    )  # fmt: skip
    return write_text(path, text)
