"""What stands above and below a table: title, data, n, eps and norm, attacks; its note, and what its marks mean."""

from __future__ import annotations

import re
from collections.abc import Iterable

from robustkit.records.schema import ORDER, Numbers, Verdict
from robustkit.reports import _format as f
from robustkit.reports._labels import budget, labeller
from robustkit.reports._table import Cell, Table
from robustkit.reports._tex_text import breakable, escape

MARKS: dict[Verdict, str] = {"unchecked": r"\dagger", "suspect": r"\ddagger", "invalid": r"\S"}
NORMS = {
    **{f"l{p}": rf"$\ell_{p}$" for p in "012"}, "linf": r"$\ell_\infty$",
    **{f"L{p}": rf"$\ell_{p}$" for p in "012"}, "Linf": r"$\ell_\infty$", "eps": r"$\varepsilon$",
}  # fmt: skip
MOST = 8  # attacks that a caption names
_ATTACKED = (
    "robustness", "worst-case", "union", "optimality", "comparisons", "perturbations", "checks", "escalation", "models",
)  # fmt: skip
_IN_ROWS = ("comparisons-attacks", "optimality", "perturbations", "checks", "escalation")  # name them
_ELSEWHERE = ("audit", "ood-sets", "pools-members", "differences", "leaderboard")  # of no one n
_LEGEND = re.compile(rf"\s*Verdicts[^:]*: {re.escape(f.LEGEND)}\.")
_BUDGET = re.compile(r"(?P<eps>[\d./]+) (?P<norm>l0|l1|l2)")


def caption(table: Table, numbers: Numbers) -> str:
    """Return title, dataset with n, and of what was attacked budgets and attacks, as LaTeX."""
    data, parts = numbers["dataset"], [named(table)]
    if not table.name.startswith(_ELSEWHERE):
        split = "" if data["split"] == "everything" else f", {escape(data['split'])} split"
        parts.append(f"Data: {_name(data['name'])}{split}, $n = {data['n']}$")
    if table.name.startswith(_ATTACKED) and numbers["evaluations"]:
        parts.append("Budgets: " + "; ".join(_budgets(map(budget, numbers["evaluations"]))))
        parts += [] if table.name.startswith(_IN_ROWS) else [_attacks(numbers)]
    return ". ".join(parts) + "."


def named(table: Table) -> str:
    """Return a table's title as LaTeX, without a stop."""
    return breakable(escape(table.title.rstrip(".")))


def _name(data: str) -> str:
    """Return the name of a dataset without the folders that a file of it lies in."""
    kind, colon, path = data.partition(":")
    return breakable(escape(kind + colon + path.replace("\\", "/").rstrip("/").rpartition("/")[2]))


def _budgets(every: Iterable[tuple[float, str]]) -> list[str]:
    by: dict[str, set[float]] = {}
    for eps, norm in every:
        by.setdefault(norm, set()).add(eps)
    return [
        f"{NORMS[norm]}, $\\varepsilon = {texts[0]}$" if len(texts) == 1
        else f"{NORMS[norm]}, $\\varepsilon \\in \\{{{', '.join(texts)}\\}}$"
        for norm, own in sorted(by.items()) for texts in [[f.eps_text(eps) for eps in sorted(own)]]
    ]  # fmt: skip


def _attacks(numbers: Numbers) -> str:
    label = labeller(numbers)
    names = list(dict.fromkeys(label(e) for e in numbers["evaluations"]))
    shown = [*names[:MOST], *([f"{len(names) - MOST} more"] if len(names) > MOST else [])]
    steps = ", with their steps" if any(re.search(r"-\d+\b", name) for name in names) else ""
    return f"Attacks{steps}: " + escape(("; " if any("," in name for name in shown) else ", ").join(shown))


def note(table: Table) -> str:
    """Return a table's note as LaTeX, without the legend of the marks that other formats have."""
    return escape(_LEGEND.sub("", table.note))


def legend(cells: Iterable[Cell]) -> str:
    """Return what the marks of some cells mean, with the checks that failed, as LaTeX; nothing where none has one."""
    said: dict[Verdict, dict[str, None]] = {verdict: {} for verdict in ORDER}
    found = set[Verdict]()
    for cell in cells:
        if cell.verdict and cell.text != cell.verdict:
            said[cell.verdict] |= dict.fromkeys(_failed(cell.hint))
            found.add(cell.verdict)
    words = [
        f"${MARKS[verdict]}$ {verdict}" + (f" (failed: {escape(', '.join(said[verdict]))})" if said[verdict] else "")
        for verdict in ORDER
        if verdict in found and verdict in MARKS
    ]
    if not words:
        return "Every verdict is trusted: no check failed." if found else ""
    return "; ".join([*words, *(["unmarked: trusted"] if "trusted" in found else [])]) + "."


def _failed(hint: str) -> list[str]:
    """Return the names of the failing checks that a cell's hint lists, a line each."""
    return [line.split(" ", 1)[0] for line in hint.split("\n") if "(threshold" in line]


def term(text: str) -> str | None:
    """Return a norm, a budget with its norm, or eps, as mathematics; None of another text."""
    if text in NORMS:
        return NORMS[text]
    found = _BUDGET.fullmatch(text)
    return f"{found['eps']} {NORMS[found['norm']]}" if found else None
