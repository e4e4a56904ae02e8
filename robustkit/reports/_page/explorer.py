"""The part of a page with a table of every sample."""

from __future__ import annotations

from collections.abc import Iterator

from robustkit.reports._checks import runs_of
from robustkit.reports._labels import budget, budget_text, labeller
from robustkit.reports._page.layout import Section, data_block, part
from robustkit.reports._page.packing import packed
from robustkit.reports._page.sections import Material
from robustkit.reports._samples import FILE, quoted


def samples(shown: Material) -> Iterator[Section]:
    """Yield the part with the table, where the samples lie beside the page."""
    results = shown.results
    table = shown.samples
    if table is None or not any(len(one.ids) for one in table.outcomes):
        return
    data, label, named = packed(table, results), labeller(results), []
    for one in data["ensembles"]:
        at = quoted(results, one["id"])
        if at is not None:
            run = runs_of(results, one["id"])[at]
            named.append({"ensemble": one["id"], "attack": label(run), "budget": budget_text(*budget(run))})
    body = part(
        "_explorer.html.j2", packed=data, data=data_block("explorer-data", data), file=FILE, strongest=named,
        members=any(one["members"] for one in data["ensembles"]),
    )  # fmt: skip
    yield Section("samples", "Every sample", body, styles=("_explorer.css", "_pictures.css"), scripts=("_explorer.js",))
