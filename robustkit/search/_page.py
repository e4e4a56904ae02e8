"""``search.html``: what a search found, in the page that all reports share. Never imports torch by itself."""

from __future__ import annotations

import shlex
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from robustkit.functional.stats import wilson_of
from robustkit.reports import _format as f
from robustkit.reports._files import write_text
from robustkit.reports._page.layout import Section, embedded, of_table, page, part
from robustkit.reports._page.sections import SCRIPTS, STYLES
from robustkit.reports._table import Cell, Table, cells
from robustkit.search import _charts

FILE = "search.html"
Record = Mapping[str, Any]  # what search.json holds


def write(record: Record, folder: Path) -> Path:
    """Write the page of a search into the folder that holds ``search.json`` and the candidates."""
    metrics, samples = record["metrics"], record["samples"]
    command = ["robustkit", "evaluate", "--checkpoint", str(folder), "--dataset", record["dataset"]]
    text = page(
        "search.html.j2", f"Architectures searched: {record['dataset']}", list(_sections(record, folder)),
        record=record, answer=_answer(record), clean=_share(metrics["test_accuracy"], samples["test"]),
        members=metrics["test_member_accuracy"], command=shlex.join(command),
    )  # fmt: skip
    return write_text(folder / FILE, text)


def _answer(record: Record) -> str:
    metrics, found = record["metrics"], record["candidates"]
    best = max(metrics["test_member_accuracy"])
    return (
        f"{len(record['chosen'])} of {len(found)} candidates, the best of {record['subsets']:,} "
        f"{'subset' if record['subsets'] == 1 else 'subsets'} on validation images, classify "
        f"{_share(metrics['test_accuracy'], record['samples']['test'])} of {record['samples']['test']:,} "
        f"{record['dataset']} test images; the best of its members alone {f.percent(best)} %."
    )


def _share(share: float, n: int) -> str:
    return f"{f.percent(share)} % {f.interval(wilson_of(share, n))}"


def _sections(record: Record, folder: Path) -> Iterator[Section]:
    table, drawn = candidates(record), _charts.candidates(record)
    body = part("_suite.html.j2", table=table, charts=drawn, sheets=[], details=[])
    yield Section(table.name, table.title, body, unfolded=True, styles=STYLES, scripts=SCRIPTS)
    if pictures := list(_cells(record, folder)):
        yield Section("cells", "Cells", part("_cells.html.j2", cells=pictures), unfolded=True)
    if drawn := _charts.history(record):
        body = part("_figures.html.j2", charts=drawn)
        yield Section("history", "The search by epoch", body, styles=STYLES, scripts=SCRIPTS)
    yield from (of_table(table) for table in _ends(record))
    yield of_table(costs(record))
    yield Section("what-this-says", "What this says", part("_search_words.html.j2", record=record), unfolded=True)
    yield Section("settings", "Settings", part("_pairs.html.j2", items=_settings(record)))


def candidates(record: Record) -> Table:
    """Return every candidate with its validation accuracy and what its method knows of it."""
    known = dict.fromkeys(key for row in record["candidates"] for key in row["facts"])
    rows = []
    for row in record["candidates"]:
        taken = "in the ensemble" if row["name"] in record["chosen"] else "-"
        about = cells(row["name"], taken, f.percent(row["validation_accuracy"]), f"{row['parameters']:,}")
        facts = [Cell(f.plain(row["facts"][key]) if key in row["facts"] else f.NONE) for key in known]
        rows.append([*about, *cells(f"{row['seconds']:.1f}"), *facts])
    columns = ["candidate", "chosen", "validation %", "parameters", "seconds of training"]
    columns += [key.replace("_", " ") for key in known]
    note = f"Accuracy on {record['samples']['validation']:,} validation images, by which the ensemble was chosen."
    return Table("candidates", "Candidates", columns, "llrrr" + "l" * len(known), rows, note)


def costs(record: Record) -> Table:
    """Return what each part of the search cost."""
    rows = [
        cells(name, f"{cost['seconds']:.1f}", f"{cost['forward']:,}", f"{cost['backward']:,}")
        for name, cost in record["costs"].items()
    ]
    note = "Passes are counted in samples: a forward pass of a batch of 64 images is 64."
    return Table("costs", "Costs", ["part", "seconds", "forward passes", "backward passes"], "lrrr", rows, note)


def _cells(record: Record, folder: Path) -> Iterator[dict[str, str]]:
    """Yield the drawings of the cells that lie beside the candidates."""
    from robustkit.ensembles.checkpoint import CANDIDATES

    for row in record["candidates"]:
        file = folder / CANDIDATES / row["name"] / "cell.svg"
        if file.is_file():
            taken = ", in the ensemble" if row["name"] in record["chosen"] else ""
            alt = f"Cell of {row['name']}: {row['facts'].get('architecture', row['arch'])}"
            yield {"title": row["name"] + taken, "alt": alt, "source": embedded("image/svg+xml", file.read_bytes())}


def _ends(record: Record) -> Iterator[Table]:
    """Yield what a method says of itself that is no course over epochs."""
    for name, rows in record["history"].items():
        if rows and "epoch" not in rows[0]:
            keys = list(dict.fromkeys(key for row in rows for key in row))
            shown = [cells(*(f.plain(row[key]) if key in row else f.NONE for key in keys)) for row in rows]
            yield Table(f.slug("also", name), name, [key.replace("_", " ") for key in keys], "r" * len(keys), shown)


def _settings(record: Record) -> Sequence[tuple[str, str]]:
    training = record["training"]
    return [
        ("method", record["method"]), (f"settings of {record['method']}", f.settings_text(dict(record["params"]))),
        ("training of the candidates", f.settings_text(training) if training else "by the method"),
        ("members", str(record["members"])), ("seed", str(record["seed"])), ("data", record["dataset"]),
        ("data sha256", record["data_sha256"]), ("robustkit", record["version"]),
    ]  # fmt: skip
