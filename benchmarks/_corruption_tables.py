"""What the benchmark of the corruptions measured, for a terminal and for docs/corruptions.md."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from rich.table import Table

Row = dict[str, Any]


def shown(rows: list[Row], size: int) -> Table:
    """Return what was measured at one size, and the sums over each suite."""
    table = Table(title=f"{size} px", title_justify="left")
    for column in ("corruption", "images/s", "reference images/s", "times"):
        table.add_column(column, justify="left" if column == "corruption" else "right")
    here = [row for row in rows if row["size"] == size]
    for suite in _suites(here):
        group = [row for row in here if row["suite"] == suite]
        for row in group:
            table.add_row(row["name"], *cells(row["seconds"], row["reference"]))
        both, ours, theirs = _sums(group)
        table.add_row(
            f"{suite}: {both} of {_counted(group)}, one after the other", *cells(ours, theirs), end_section=True
        )
    return table


def cells(seconds: float, reference: float | None) -> tuple[str, str, str]:
    """Return images per second, those of the reference, and how many times as many the former are."""
    ours, theirs = _rate(seconds), _rate(reference) if reference else "-"
    return ours, theirs, f"{reference / seconds:.1f}" if reference else "-"


def markdown(result: Row) -> str:
    """Return the two tables of docs/corruptions.md, and a line on the machine and how busy it was."""
    rows, sizes = result["rows"], sorted({row["size"] for row in result["rows"]})
    lines = ["| suite, one image through all | robustkit | reference | times |", "|---|---:|---:|---:|"]
    for size in sizes:
        for suite in _suites(row for row in rows if row["size"] == size):
            group = [row for row in rows if row["size"] == size and row["suite"] == suite]
            both, ours, theirs = _sums(group)
            of = "" if both == _counted(group) else f" of {_counted(group)}"
            times = f"{theirs / ours:.1f}" if both else ""
            lines.append(f"| {suite}, {both}{of} at {size} px | {_ms(ours)} | {_ms(theirs)} | {times} |")
    lines += ["", "| images per second | " + " | ".join(f"{size} px | reference | times" for size in sizes) + " |"]
    lines.append("|---" + "|---:" * 3 * len(sizes) + "|")
    for name in dict.fromkeys(row["name"] for row in rows):
        found = [next((row for row in rows if row["name"] == name and row["size"] == size), None) for size in sizes]
        parts = [" | ".join(cells(row["seconds"], row["reference"])) if row else " | | " for row in found]
        lines.append(f"| {name} | " + " | ".join(parts).replace("-", "") + " |")
    return "\n".join([*lines, "", machine(result)]) + "\n"


def machine(result: Row) -> str:
    """Say what was measured on, and what else it was doing."""
    loads = "load average unknown" if result["load"] is None else "load average {:.1f} at the start, {:.1f} at the end"
    return (
        f"{result['date']}, {result['device']}, threads: {result['threads']} of {result['cores']} cores, "
        f"{loads.format(*(result['load'] or ()))}, {result['seconds']:.0f} s in all, torch {result['torch']}; "
        f"mean over severities 1, 3, 5, fastest of {result['repeats']} rounds each, by the {result['clock']} clock."
    )


def _suites(rows: Iterable[Row]) -> list[str]:
    return list(dict.fromkeys(row["suite"] for row in rows))


def _counted(group: list[Row]) -> int:
    """Return how many corruptions a suite has: two ways of making one are two rows."""
    return len({row["name"].partition(",")[0] for row in group})


def _sums(group: list[Row]) -> tuple[int, float, float]:
    """Return how many have a reference, and the seconds of these, ours and the reference's."""
    both = [row for row in group if row["reference"]]
    return len(both), sum(row["seconds"] for row in both), sum(row["reference"] for row in both)


def _rate(seconds: float) -> str:
    return f"{1 / seconds:,.0f}" if seconds < 0.1 else f"{1 / seconds:.1f}"


def _ms(seconds: float) -> str:
    return f"{1000 * seconds:,.0f} ms" if seconds > 0.02 else f"{1000 * seconds:.1f} ms"
