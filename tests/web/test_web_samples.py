"""The table of every sample in a browser: it says what samples.csv says, sorts, filters, searches, pages and opens."""

from __future__ import annotations

import csv
import io
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from stored_pages import stored_results

from robustkit.reports._sample_arrays import read_arrays
from robustkit.reports._samples import samples_csv

ROWS = """() => [...document.querySelectorAll("#explorer-table tbody tr[data-row]")].map((row) =>
  Object.fromEntries([...row.cells].map((cell, at) => [
    document.querySelector("#explorer-table thead").rows[0].cells[at].dataset.key,
    (cell.querySelector("button") ?? cell).textContent])))"""
COUNT = "document.getElementById('explorer-count').textContent"


@pytest.fixture
def samples(pages, opened):
    """The page of two ensembles, its table of samples unfolded."""
    with opened(pages("main")) as page:
        page.evaluate("document.getElementById('samples').open = true")
        page.wait_for_selector("#explorer:not([hidden])")
        yield page


@pytest.fixture(scope="module")
def rows(pages) -> list[dict[str, str]]:
    """What samples.csv holds, which pandas, R and people read."""
    results = stored_results("main")
    table = read_arrays(results, Path(pages("main")).parent)
    assert table is not None
    return list(csv.DictReader(io.StringIO(samples_csv(results, table.outcomes))))


def press(page: Any, name: str) -> None:
    """Press a button of the pager, whether or not it says that it does nothing."""
    page.evaluate("(id) => document.getElementById(id).click()", f"explorer-{name}")


def every(page: Any) -> list[dict[str, str]]:
    """Return the rows of all pages from the first."""
    press(page, "first")
    found = page.evaluate(ROWS)
    while page.locator("#explorer-on").get_attribute("aria-disabled") == "false":
        press(page, "on")
        found += page.evaluate(ROWS)
    return found


def votes(label: str, said: str) -> str:
    members = said.split()
    wrong = Counter(one for one in members if one != label).most_common()
    text = ", ".join(f"{times} \u00d7 {one}" if times > 1 else one for one, times in wrong)
    return f"{sum(one == label for one in members)} of {len(members)}" + (f" ({text})" if text else "")


def test_every_row_says_what_the_file_says(samples, rows):
    found = every(samples)
    assert len(found) == len(rows) == 48
    for shown, row in zip(found, rows, strict=True):
        unbroken = "" if row["broken_by_linf"] else "withstood all"
        by = {"clean": "wrong without an attack"}.get(row["broken_by_linf"], row["broken_by_linf"])
        assert shown == {
            "id": row["id"], "ensemble": row["ensemble"], "label": row["label"], "clean": row["clean_prediction"],
            "eps 0": row["smallest_eps_linf"] or unbroken, "by 0": by, "votes": votes(row["label"], row["clean_votes"]),
            "after": votes(row["label"], row["strongest_votes"]),
        }  # fmt: skip


def test_what_withstands_is_the_robust_accuracy_of_the_results(samples):
    results = stored_results("main")
    attacks = {text: at for at, text in enumerate(_options(samples, "attack")[1:])}
    budgets = {text: at for at, text in enumerate(_options(samples, "budget")[1:])}
    assert len(results["evaluations"]) >= 8
    for e in results["evaluations"]:
        samples.select_option("#explorer-ensemble", label=e["ensemble"])
        samples.select_option("#explorer-outcome", "withstood")
        samples.select_option("#explorer-attack", str(attacks[f"{e['attack']}-{e['params']['steps']}"]))
        samples.select_option("#explorer-budget", str(budgets[f"{e['eps']:g}"]))
        assert samples.evaluate(COUNT) == f"{round(e['robust_accuracy'] * results['dataset']['n'])} of 48 samples"
        samples.select_option("#explorer-outcome", "broken")
        assert samples.evaluate(COUNT) == f"{round((1 - e['robust_accuracy']) * results['dataset']['n'])} of 48 samples"


def _options(page: Any, name: str) -> list[str]:
    return page.locator(f"#explorer-{name} option").all_text_contents()


def test_the_worst_case_and_the_clean_accuracy_are_found_as_well(samples):
    results = stored_results("main")
    n = results["dataset"]["n"]
    for e in results["ensembles"]:
        samples.select_option("#explorer-ensemble", label=e["id"])
        samples.select_option("#explorer-outcome", "clean")
        assert samples.evaluate(COUNT) == f"{round((1 - e['accuracy']) * n)} of 48 samples"
        samples.select_option("#explorer-outcome", "withstood")
        worst = min((w for w in results["worst_case"] if w["ensemble"] == e["id"]), key=lambda w: -w["eps"])
        assert samples.evaluate(COUNT) == f"{round(worst['robust_accuracy'] * n)} of 48 samples"


def test_columns_sort_both_ways(samples, rows):
    for key, value in {"id": int, "clean": int, "label": int, "eps 0": float}.items():
        column = {"id": "id", "clean": "clean_prediction", "label": "label", "eps 0": "smallest_eps_linf"}[key]
        wanted = sorted(value(row[column] or "inf") for row in rows)
        for order in (wanted, wanted[::-1]):
            samples.locator(f"th[data-key='{key}'] button").click()
            found = [row[key].replace("withstood all", "inf") for row in every(samples)]
            assert [value(one) for one in found] == order
        sorted_by = samples.evaluate(
            "[...document.querySelectorAll('#explorer-table [aria-sort]')].map((one) => one.dataset.key)"
        )
        assert sorted_by == [key]


def test_words_are_searched(samples, rows):
    for text, kept in {
        "87": lambda row: row["id"] == "87",
        "mim": lambda row: "mim" in row["broken_by_linf"],
        "adp 3": lambda row: row["ensemble"] == "adp" and "3" in (row["label"], row["clean_prediction"], row["id"]),
        "nothing": lambda row: False,
    }.items():
        samples.locator("#explorer-search").fill(text)
        found = {(row["ensemble"], row["id"]) for row in every(samples)}
        assert found == {(row["ensemble"], row["id"]) for row in rows if kept(row)}, text
    samples.locator("#explorer-reset").click()
    assert samples.evaluate(COUNT) == "48 of 48 samples"


def test_pages_turn(samples):
    assert samples.locator("#explorer-page").inner_text() == "page 1 of 2"
    first = samples.evaluate(ROWS)
    press(samples, "last")
    assert samples.locator("#explorer-page").inner_text() == "page 2 of 2"
    assert len(samples.evaluate(ROWS)) == 23
    press(samples, "on")  # nothing is beyond the last
    press(samples, "back")
    assert samples.evaluate(ROWS) == first


def test_a_click_shows_the_images_of_a_sample(samples):
    shown = samples.evaluate("document.querySelector('#images figure').dataset.sample").split("-")[1]
    source = f"[...document.querySelectorAll(\"#images [data-sample='0-{shown}'] img\")].map((one) => one.src)"
    samples.locator("#explorer-search").fill(shown)
    samples.locator("#explorer-table tbody tr[data-row] td").first.click()
    more = samples.locator("#explorer-table tr.more")
    assert more.locator("img").count() == 3
    assert more.evaluate("(one) => [...one.querySelectorAll('img')].map((i) => i.src)") == samples.evaluate(source)
    assert more.evaluate("(one) => [...one.querySelectorAll('img')].every((i) => i.naturalWidth === 8)")
    assert more.locator("img").first.bounding_box()["width"] == 96  # a whole multiple, so that pixels are squares
    samples.locator("#explorer-table tbody tr[data-row] td").first.click()
    assert more.count() == 0


def test_what_was_not_attacked_says_so(samples, rows):
    wrong = next(row for row in rows if row["clean_broken"] == "1")
    samples.locator("#explorer-search").fill(wrong["id"])
    samples.select_option("#explorer-ensemble", label=wrong["ensemble"])
    samples.locator("#explorer-table tbody th button").first.click()
    assert "wrong without an attack, so none was run" in samples.locator("tr.more").inner_text()


def test_the_keyboard_alone_finds_and_opens_a_sample(samples, rows):
    page = samples
    page.locator("#samples > summary").focus()
    for _ in range(12):
        page.keyboard.press("Tab")
        if page.evaluate("document.activeElement.id") == "explorer-search":
            break
    page.keyboard.type("87")
    assert page.evaluate(COUNT) == "2 of 48 samples"
    for _ in range(20):
        page.keyboard.press("Tab")
        if page.evaluate("document.activeElement.closest('tbody th') !== null"):
            break
    assert page.evaluate("document.activeElement.getAttribute('aria-label')").startswith("Sample 87 of ")
    page.keyboard.press("Enter")
    assert page.evaluate("document.activeElement.getAttribute('aria-expanded')") == "true"
    assert page.locator("tr.more img").count() == 3
    page.keyboard.press("Tab")  # on to what was opened
    assert page.evaluate("document.activeElement.closest('tr.more') !== null")
    page.keyboard.press("Shift+Tab")
    page.keyboard.press("Space")
    assert page.locator("tr.more").count() == 0


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_on_a_phone_what_opens_is_no_wider_than_it(scheme: str, pages, opened):
    with opened(pages("main"), width=390, scheme=scheme) as page:
        page.evaluate("document.getElementById('samples').open = true")
        page.locator("#explorer-table tbody th button").first.click()
        assert page.evaluate("document.documentElement.scrollWidth") <= 390
        assert page.locator("tr.more .inside").bounding_box()["width"] <= 390
        page.locator("#explorer .scroll").evaluate("(one) => { one.scrollLeft = 200; }")
        assert page.locator("tr.more img").first.bounding_box()["x"] >= 0  # what is open does not scroll away


def test_an_older_browser_names_the_file_that_has_all(browser, pages):
    page = browser.new_page()
    page.add_init_script("delete window.DecompressionStream")
    page.goto(pages("main").as_uri())
    page.evaluate("document.getElementById('samples').open = true")
    assert "samples.csv" in page.locator("#explorer-off").inner_text()
    assert not page.locator("#explorer").is_visible()
    page.close()
