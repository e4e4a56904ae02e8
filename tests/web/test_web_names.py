"""Names are no markup, on every page: a class, an ensemble, a data set, a folder, a candidate of a search."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from stored_pages import HERE, found_page, make, stored_results

from robustkit import reports
from robustkit.reports._sample_arrays import FILE, read_arrays, write_arrays

FOLDER = "<img src=x onerror=alert(1)>\"'&amp;"  # as a folder may be called
EVIL = f"{FOLDER}</script><style>*{{display:none}}</style><svg onload=alert(1)>"
MARKUP = "document.querySelectorAll('[onerror], [onload], body style, img[src=x], main script:not([type])').length"


def renamed(value: Any, old: str, new: str) -> Any:
    """Return a value in which every text that is a name is another."""
    if isinstance(value, dict):
        return {key: renamed(inner, old, new) for key, inner in value.items()}
    if isinstance(value, list):
        return [renamed(inner, old, new) for inner in value]
    return new if value == old else value


def hostile(kind: str, folder: Path) -> Path:
    """Write a page in which every name that comes from outside is markup."""
    data = {"name": EVIL, "classes": [f"{EVIL} {label}" for label in range(10)]}
    if kind in ("compare", "leaderboard"):
        return make(kind, folder, [f"{FOLDER} {at}" for at in range(3)], data)
    record: Any = stored_results(kind)
    if kind == "search":
        for row in record["candidates"]:
            record = renamed(record, row["name"], f"{FOLDER} {row['name']}")
        return found_page(
            folder, {**record, "dataset": EVIL, "method": EVIL, "costs": {EVIL: record["costs"]["choice"]}}
        )
    old = record["ensembles"][0]["id"]
    results = renamed(record, old, EVIL)
    results["dataset"] |= data
    (folder / FILE).write_bytes((HERE / "stored" / f"{kind}.npz").read_bytes())
    table = read_arrays(record, folder)
    assert table is not None
    table = replace(
        table, outcomes=[replace(one, ensemble=renamed(one.ensemble, old, EVIL)) for one in table.outcomes],
        pictures=[replace(one, about=renamed(dict(one.about), old, EVIL)) for one in table.pictures], notes=[EVIL],
    )  # fmt: skip
    write_arrays(table, record["samples"]["sha256"], folder)
    return reports.write(results, folder, ["html"])[0]


@pytest.mark.parametrize("kind", ["main", "suites", "audit", "pool", "seeds", "compare", "leaderboard", "search"])
def test_names_are_no_markup(kind: str, opened, tmp_path: Path):
    """What is asserted beside it: no dialog, no request, no error (``opened``)."""
    with opened(hostile(kind, tmp_path)) as page:
        page.evaluate("document.querySelectorAll('details').forEach((one) => { one.open = true; })")
        text = page.locator("main").inner_text() + page.locator("header").inner_text()
        assert "onerror=alert(1)" in text
        assert FOLDER in text  # to the letter: neither escaped twice nor eaten
        if kind not in ("compare", "leaderboard"):
            assert EVIL in text
        assert page.evaluate(MARKUP) == 0
        if page.locator("#explorer").count():
            samples(page)
        for button in page.locator("th button, .legend button").all()[:12]:
            button.evaluate("(one) => one.click()")
        page.keyboard.press("Tab")
        assert page.evaluate(MARKUP) == 0


def test_long_names_make_no_page_wider_than_a_phone(opened, tmp_path: Path):
    with opened(hostile("main", tmp_path), width=390) as page:
        page.evaluate("document.querySelectorAll('details').forEach((one) => { one.open = true; })")
        for button in page.locator("#explorer tbody th button").all()[:3]:
            button.click()
        assert page.evaluate("document.documentElement.scrollWidth") <= 390


def samples(page: Any) -> None:
    """Open samples whose names are markup, and look for one by it."""
    assert EVIL in page.locator("#explorer-label").inner_text()
    for button in page.locator("#explorer tbody th button").all()[:3]:
        button.click()
    assert EVIL in page.locator("tr.more").first.inner_text()
    page.locator("#explorer-search").fill("onerror=alert(1)")
    assert page.locator("#explorer tbody tr[data-row]").count() > 0
    assert page.evaluate(MARKUP) == 0
