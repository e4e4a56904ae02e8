"""What the pages do: fold, print, remember light or dark, let nothing in or out, and read without scripts."""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path

import pytest
from stored_pages import KINDS, stored_results

from robustkit import reports

PAPER = 688  # pixels between the margins of A4
MOST = 1_500_000  # bytes of a page; that of the README's run has 269,000 (docs/report.md)


def test_the_answer_comes_first_and_the_rest_is_folded(pages, opened):
    with opened(pages("main")) as page:
        answer = page.locator(".answer").first.bounding_box()
        assert answer["y"] < 300
        tops = [
            page.locator(what).first.bounding_box()["y"]
            for what in (".cards", "figure.chart", ".settle", "details.part")
        ]
        assert tops == sorted(tops)
        assert page.locator("details.part[open]").count() < page.locator("details.part").count()
        page.locator(".side button.unfold").click()
        assert page.locator("details.part:not([open])").count() == 0
        page.locator(".side button.unfold").click()
        assert page.locator("details.part[open]").count() == 0


def test_without_an_attack_what_was_measured_comes_first(pages, opened):
    with opened(pages("pool")) as page:
        parts = page.locator("details.part").evaluate_all("(all) => all.map((one) => [one.id, one.open])")
        assert parts[0] == ["pools", True]
        assert ["robustness", False] in parts
        assert "the tables are below." in page.locator("header").inner_text()


def test_a_link_opens_what_it_leads_to(pages, opened):
    with opened(pages("main")) as page:
        page.locator(".side a", has_text="Settings").click()
        page.wait_for_function("document.getElementById('settings').open")
        page.evaluate("document.getElementById('settings').open = false")
        page.locator(".side a", has_text="Settings").click()  # the same link again
        page.wait_for_function("document.getElementById('settings').open")


def test_an_address_that_names_nothing_breaks_nothing(pages, opened):
    with opened(pages("main")) as page:
        page.goto(page.url + "#%")
        page.reload()
        page.wait_for_selector("#explorer", state="attached")
        assert page.locator("#theme").is_visible()


def test_dark_by_preference_and_by_switch_and_remembered(pages, opened):
    colour = "getComputedStyle(document.body).backgroundColor"
    with opened(pages("main")) as page:
        light = page.evaluate(colour)
        page.locator("#theme").click()
        dark = page.evaluate(colour)
        assert dark != light
        assert page.locator("#theme").get_attribute("aria-pressed") == "true"
        for _ in range(5):  # on a busy machine Chromium hands on what a page stored a moment after its next load
            page.reload()
            if page.evaluate(colour) == dark:
                break
        assert page.evaluate(colour) == dark
        page.locator("#theme").click()
        assert page.evaluate(colour) == light
    with opened(pages("main"), scheme="dark") as page:
        assert page.evaluate(colour) == dark
        assert page.locator("#theme").get_attribute("aria-pressed") == "true"


def test_on_paper_everything_is_unfolded_and_light(pages, opened):
    with opened(pages("main"), scheme="dark") as page:
        page.emulate_media(media="print")
        assert page.evaluate("getComputedStyle(document.body).backgroundColor") == "rgb(255, 255, 255)"
        page.evaluate("dispatchEvent(new Event('beforeprint'))")
        assert page.locator("#settings").locator("dd").first.is_visible()
        for gone in ("#theme", ".copy", ".unfold", ".filters", ".pager"):
            assert page.locator(f"{gone}:visible").count() == 0
        for kept in (".legend button", "#explorer thead button", "#explorer tbody button"):
            assert page.locator(kept).first.is_visible()
        page.evaluate("dispatchEvent(new Event('afterprint'))")
        assert page.locator("details.part:not([open])").count() > 0


@pytest.mark.parametrize("kind", KINDS)
def test_a_page_is_small(kind: str, pages):
    assert pages(kind).stat().st_size <= MOST / 3  # ours are of 24 samples, whose share is small


@pytest.mark.parametrize("kind", KINDS)
def test_on_paper_nothing_is_cut_off(kind: str, pages, opened):
    with opened(pages(kind), width=PAPER) as page:
        page.emulate_media(media="print")
        page.evaluate("dispatchEvent(new Event('beforeprint'))")
        beyond = page.evaluate(
            """(width) => [...document.querySelectorAll("main *")].filter((one) => one.checkVisibility()
              && !one.closest("svg svg, .sr") && one.getBoundingClientRect().right > width + 1)
              .map((one) => one.outerHTML.slice(0, 120))""",
            PAPER,
        )
        assert beyond == []


@pytest.mark.skipif(shutil.which("pdftotext") is None, reason="needs pdftotext")
def test_what_is_printed_has_settings_page_numbers_and_a_title(pages, opened, tmp_path: Path):
    with opened(pages("main"), scheme="dark") as page:
        page.pdf(path=tmp_path / "page.pdf", format="A4")
        assert page.locator("details.part:not([open])").count() > 0  # and folded again
    done = subprocess.run(
        ["pdftotext", "-layout", tmp_path / "page.pdf", "-"], capture_output=True, text=True, check=True
    )
    sheets = done.stdout.split("\f")[:-1]
    for at, sheet in enumerate(sheets, 1):
        assert f"{at} / {len(sheets)}" in sheet
        assert "Robustness report: digits" in sheet.splitlines()[0] + sheet.splitlines()[1]
    text = " ".join(done.stdout.split())
    results = stored_results("main")
    for e in results["evaluations"]:
        assert f"steps={e['params']['steps']}" in text
    assert results["environment"]["platform"] in text
    assert text.count("Numbers: Robust accuracy") == 1  # the table below a chart, which is folded on the screen
    for name in ("adp", "worst case", "pgd-2", "mim-10"):  # a legend is read
        assert name in sheets[0] + sheets[1]


def test_without_scripts_everything_can_be_read(pages, opened):
    with opened(pages("main"), java_script_enabled=False) as page:
        assert not page.locator("#theme").is_visible()  # no button that does nothing
        assert page.locator("button:visible").count() == 0
        page.locator("#settings > summary").click()
        assert page.locator("#settings dd").first.is_visible()
        assert page.locator("[data-table=robustness] td").first.is_visible()


def test_a_command_is_copied_whole(opened, tmp_path):
    results = stored_results("main")
    advice = "an attack of another kind may find more: robustkit evaluate --attacks 'apgd-t,square' --escalate"
    results["worst_case"][0] |= {
        "verdict": "suspect",
        "checks": [{"name": "outsider", "passed": False, "value": 0.1, "threshold": 0.02, "advice": advice}],
    }
    with opened(
        reports.write(results, tmp_path, ["html"])[0], permissions=["clipboard-read", "clipboard-write"]
    ) as page:
        command = page.locator(".command code").first.inner_text()
        assert command.startswith("robustkit ")
        page.locator(".command .copy").first.click()
        page.wait_for_function("document.getElementById('said').textContent !== ''")
        assert page.evaluate("navigator.clipboard.readText()") == command


def test_the_policy_lets_nothing_run_or_load(browser, pages):
    page = browser.new_page()
    refused = []
    page.on("console", lambda message: refused.append(message.text) if message.type == "error" else None)
    page.goto(pages("main").as_uri())
    page.evaluate(
        """() => {
          const script = document.createElement("script");
          script.textContent = "window.ran = true";
          const place = document.createElement("div");
          place.innerHTML = '<img src="https://example.org/x.png" onerror="window.ran = true">'
            + '<p style="color: red">x</p>';
          document.body.append(script, place);
          fetch("https://example.org/").catch(() => {});
        }"""
    )
    page.wait_for_timeout(200)
    assert page.evaluate("window.ran") is None
    text = "\n".join(refused)
    for rule in ("script-src", "img-src", "style-src", "connect-src"):
        assert re.search(rf"{rule}|default-src", text), text
    assert len(refused) >= 4
    page.close()


def test_a_board_sorts_by_keyboard(pages, opened):
    with opened(pages("leaderboard")) as page:
        first = "document.querySelector('#board tbody th').textContent"
        assert page.evaluate(first) == "plain"
        head = page.locator("#board th button", has_text="worst case %")
        head.focus()
        page.keyboard.press("Enter")
        assert page.evaluate(first) == "third"
        assert head.locator("..").get_attribute("aria-sort") == "ascending"
        page.keyboard.press("Enter")
        assert page.evaluate(first) == "plain"
