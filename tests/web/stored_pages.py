"""Pages of every kind: of small stored results with their samples, of evaluations made by hand, of a stored search."""

from __future__ import annotations

import gzip
import json
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from stored import changed, evaluation, some

import robustkit
from robustkit import reports
from robustkit.comparison import leaderboard
from robustkit.models._genotype import from_json
from robustkit.records.schema import Results
from robustkit.reports._sample_arrays import FILE
from robustkit.search import _drawing
from robustkit.search import _page as search_page

HERE = Path(__file__).parent
KINDS = ("main", "suites", "audit", "pool", "compare", "seeds", "leaderboard", "search")


def stored_results(kind: str) -> Results:
    """Return results that ``make_stored.py`` kept."""
    found: Results = json.loads(gzip.decompress((HERE / "stored" / f"{kind}.json.gz").read_bytes()))
    return found


def report_page(kind: str, folder: Path, results: Results | None = None) -> Path:
    """Write the page of stored results with their samples; of these results where some are given."""
    folder.mkdir(parents=True, exist_ok=True)
    samples = HERE / "stored" / f"{kind}.npz"
    if samples.is_file():
        shutil.copy(samples, folder / FILE)
    return reports.write(results or stored_results(kind), folder, ["html"])[0]


def found_page(folder: Path, record: Any) -> Path:
    """Write the page of a stored search, with the drawings of its cells."""
    for row in record["candidates"]:
        cell = folder / "candidates" / row["name"] / "cell.svg"
        cell.parent.mkdir(parents=True)
        _drawing.draw(from_json(row["arch_params"]["genotype"]), cell, row["name"])
    return search_page.write(record, folder)


def make(kind: str, folder: Path, names: Sequence[str] = ("plain", "other", "third"), data: Any = None) -> Path:
    """Return the page of stored results, of two evaluations compared, or of three ranked; of the last two by names."""
    if kind == "search":
        return found_page(folder, stored_results(kind))
    if kind not in ("compare", "leaderboard"):
        return report_page(kind, folder)
    for at, (name, verdict) in enumerate(zip(names, ("trusted", "suspect", "invalid"), strict=True)):
        right = {0.1: some(50, 30 - 5 * at), 0.2: some(50, 20 - 5 * at), None: some(50, 49 - at)}
        evaluation(folder / name, {name: right}, verdict=verdict, attacks=("pgd", "mim"))
        (folder / name / "report.html").write_text("a report")
        if data:
            numbers = json.loads((folder / name / "results.json").read_text())
            changed(folder / name, dataset={**numbers["dataset"], **data})
    if kind == "leaderboard":
        return leaderboard.write(leaderboard.leaderboard(folder), folder / "leaderboard.html")
    robustkit.compare([folder / name for name in names[:2]], out=folder / "compared")
    return folder / "compared" / "compare.html"
