"""What the measurements look like: a line, a table for the terminal, a table in Markdown, a figure."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from matplotlib.figure import Figure
from rich.table import Table

from robustkit.base.errors import UserError
from robustkit.base.files import write_atomic
from robustkit.reports._style import DPI, GRID, INK, PALETTE, SOFT, bare

BEGIN, END = "<!-- table -->", "<!-- /table -->"
PAGE, IMAGE = "benchmarks.md", "images/benchmark.png"
SIZES = {"l2": "L2", "en": "EN", "count": "features"}
MARKERS = ("D", "o", "s", "^", "v", "P")
Row = list[str]


def line(found: dict[str, Any], norm: str = "") -> str:
    """Return one result in words: seconds, share of the floor, robust accuracy, mean size."""
    if found["error"]:
        return str(found["error"])
    words = [f"{_digits(found['seconds'])} s", f"{_digits(found['ratio_to_floor'])} x"]
    words.append(f"{100 * found['robust_accuracy']:.1f} %")
    if found["distance"]:
        words.append(f"{SIZES.get(norm, 'size')} {_digits(found['distance']['mean'])}")
    words += [f"{found['errors']} images failed"] if found["errors"] else []
    words += [f"left the {what}" for what in ("box", "ball") if found[f"left_{what}"]]
    return ", ".join(words)


def _digits(value: float) -> str:
    return f"{value:.0f}" if value >= 100 else f"{value:.3g}"


def _verdict(row: dict[str, Any]) -> str:
    found = row["comparison"]
    if found is None:
        return "-"
    return f"{found['ratio']:.1f}x {found['peer']}" + ("" if found["reached"] else " (*)")


def names(result: dict[str, Any]) -> list[str]:
    """Return the implementations in the order of the columns."""
    return [found["implementation"] for found in result["workloads"][0]["results"]] if result["workloads"] else []


def _rows(result: dict[str, Any]) -> Iterator[Row]:
    for row in result["workloads"]:
        yield [
            row["title"], _digits(row["floor_seconds"]),
            *(line(found, row["norm"]).partition(":")[0] for found in row["results"]), _verdict(row),
        ]  # fmt: skip


def merged(results: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """Return the rows of several runs of the same implementations as one result; the conditions of each are kept."""
    first = results[0]
    if len(results) == 1:
        return first
    if any(names(result) != names(first) for result in results):
        raise UserError("the files have other implementations each; render files of the same --speeds and --peers.")
    rows = [{**row, "title": f"{row['title']} ({row['images']} images)"} for r in results for row in r["workloads"]]
    return {**first, "workloads": rows, "conditions": [_conditions(result) for result in results]}


def table(result: dict[str, Any]) -> Table:
    """Return the table for a terminal."""
    shown = Table(*("workload", "floor, s", *names(result), "ahead"), title="seconds, x floor, robust accuracy, size")
    for title, *cells in _rows(result):
        shown.add_row(title, *(cell.replace(", ", "\n") for cell in cells), end_section=True)
    return shown


def markdown(result: dict[str, Any]) -> str:
    """Return conditions, table, memory, notes and errors as Markdown."""
    columns = names(result)
    parts = [
        *result.get("conditions", [_conditions(result)]),
        f"![Seconds of each implementation as a share of the floor]({IMAGE})",
        _table(["workload", "floor, s", *columns, "against the fastest as successful peer"], _rows(result)),
        "Seconds, seconds as a share of the floor, robust accuracy, and for minimum-norm attacks the mean size over "
        "the images where the attack succeeded. (*): no peer reaches robustkit's success; that is the fastest of all.",
        "Peak growth of the process (on CUDA: of the allocated memory) in MiB:",
        _table(["workload", *columns], _memory(result)),
        *_remarks(result),
    ]
    return "\n\n".join(parts)


def _table(head: Row, rows: Iterator[Row]) -> str:
    lines = [head, [":---", *["---:"] * (len(head) - 1)], *rows]
    return "\n".join(f"| {' | '.join(cell.replace('|', '/') for cell in row)} |" for row in lines)


def _memory(result: dict[str, Any]) -> Iterator[Row]:
    for row in result["workloads"]:
        grown = [found["peak_memory_mib"] for found in row["results"]]
        yield [row["title"], *("-" if value is None else f"{value:.0f}" for value in grown)]


def _conditions(result: dict[str, Any]) -> str:
    machine, subject = result["machine"], result["subject"]
    flags = ", ".join(flag for flag, there in machine["flags"].items() if there) or "none of the known instruction sets"
    versions = ", ".join(f"{name} {version}" for name, version in result["versions"].items() if version)
    missing = f" Not installed: {', '.join(result['missing'])}." if result["missing"] else ""
    quick = " **Steps divided by 20: no figure here means anything.**" if result["quick"] else ""
    once = "; ".join(
        f"{c['implementation']} (speed {c['speed']}): {_digits(c['seconds'])} s" for c in result["crafting"]
    )
    return (
        f"{result['date'][:10]}, `{result['command']}`.{quick} {machine['gpu'] or machine['cpu']} ({flags}), "
        f"{machine['threads']} of {machine['cores']} cores, batch size {result['settings']['batch_size']}. "
        f"{subject['ensemble']}: {subject['members']} members, {subject['parameters']} parameters; "
        f"{subject['images']} of {subject['asked']} images of {subject['data'].partition(':')[0]} "
        f"{tuple(subject['shape'])}, JSMA on {result['settings']['n_jsma']}. {versions}.{missing} "
        f"Made once per evaluation, not in the rows: crafting copy of {once}."
    )


def _remarks(result: dict[str, Any]) -> Iterator[str]:
    """Yield what the table has no room for, one list."""
    told = dict.fromkeys(
        f"- {row['title']}, {found['implementation']}: {text}."
        for row in result["workloads"]
        for found in row["results"]
        for text in (found["note"], found["error"] if found["error"] != "not offered" else None)
        if text
    )
    if told:
        yield "\n".join(told)


def figure(result: dict[str, Any]) -> Figure:
    """Draw seconds as a share of the floor, a row per workload; hollow: less successful than robustkit."""
    rows = result["workloads"]
    drawn = Figure(figsize=(8.4, 1.4 + 0.42 * len(rows)), layout="constrained", facecolor="white", dpi=DPI)
    axes = drawn.subplots()
    for at, name in enumerate(names(result)):
        colour, marker = PALETTE[at % len(PALETTE)], MARKERS[at % len(MARKERS)]
        axes.plot([], [], marker, color=colour, label=name)
        for place, row in enumerate(rows):
            found = row["results"][at]
            if found["seconds"]:
                face = colour if found["ours"] or found["as_successful"] else "white"
                height = place + 0.1 * (at - (len(row["results"]) - 1) / 2)  # so that none hides another
                axes.plot(found["ratio_to_floor"], height, marker, color=colour, markerfacecolor=face, markersize=6)
    axes.axvline(1.0, color=SOFT, linewidth=1)
    axes.set_xscale("log")
    axes.xaxis.set_major_formatter("{x:g}")
    axes.set_yticks(range(len(rows)), [row["title"] for row in rows], fontsize=9, color=INK)
    axes.invert_yaxis()
    axes.grid(axis="both", color=GRID, linewidth=0.8)
    axes.set_axisbelow(True)
    axes.tick_params(length=0)
    axes.set_xlabel("seconds / (steps x forward + input gradient, plain model); hollow: less successful", fontsize=9)
    bare(axes)
    drawn.legend(loc="outside upper center", ncols=6, frameon=False, fontsize=9)
    return drawn


def write(result: dict[str, Any], folder: Path) -> list[Path]:
    """Write the figure, and the table between its marks in the page; a page without them is made, or refused."""
    page, image = folder / PAGE, folder / IMAGE
    text = page.read_text("utf-8") if page.exists() else f"# Benchmarks\n\n{BEGIN}\n{END}\n"
    before, begin, rest = text.partition(BEGIN)
    _, end, after = rest.partition(END)
    if not begin or not end:
        raise OSError(f"'{page}' has no place for the table; put {BEGIN} and {END} where it belongs")
    filled = f"{before}{BEGIN}\n\n{markdown(result)}\n\n{END}{after}"
    write_atomic(image, lambda stream: figure(result).savefig(stream, format="png", metadata={"Software": None}))
    write_atomic(page, lambda stream: stream.write(filled.encode()))
    return [page, image]
