"""Everybody reads the pages: with a screen reader, with the keyboard alone, in the dark, on a phone."""

from __future__ import annotations

import pytest
from stored_pages import KINDS

axe = pytest.importorskip("axe_playwright_python.sync_playwright", reason="needs the extra test-web")

LEVELS = ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22aa"]
SEEN = [(width, scheme) for width in (390, 1300) for scheme in ("light", "dark")]
ALIKE = ("seeds", "leaderboard", "search")  # made of what the others are made of: looked at twice, not four times
# Colours are nine tenths of axe's time, at two milliseconds an element. So they are looked at on a page in which every
# kind of element, told by its tag and attributes and by those of all around it, stands once. Texts in SVG are left out:
# axe does not judge them, and tests of the charts do.
THIN = """() => {
  const said = (name) => ["id", "href", "src", "alt", "aria-label"].includes(name) || name.startsWith("data-");
  const own = (one) => one.tagName + one.getAttributeNames().filter((name) => !said(name))
    .map((name) => ` ${name}=${one.getAttribute(name)}`).join("");
  const whole = (one) => `${own(one)}(${[...one.childNodes].map((inner) => inner.nodeType === 1 ? whole(inner)
    : inner.textContent.trim() ? "t" : "").join()})`;
  const around = (one) => one === document.body ? "" : `${around(one.parentElement)}/${own(one)}`;
  document.querySelectorAll("svg text").forEach((one) => one.remove());
  const seen = new Set();
  const parts = "main tr, main figure:not(.chart), main p, main li, .pairs > div, dt, dd, th, td";
  document.querySelectorAll(parts).forEach((one) => {
    if (!one.isConnected) return;
    const key = `${around(one.parentElement)}>${whole(one)}`;
    if (seen.has(key)) one.remove(); else seen.add(key);
  });
}"""
UNFOLD = "document.querySelectorAll('details').forEach((one) => { one.open = true; })"
# What the keyboard reaches: every link, button and fold, and whatever scrolls.
FOCUSABLE = """() => [...document.querySelectorAll("a[href], button, summary, [tabindex='0'], input, select")]
  .filter((one) => !one.hidden && one.checkVisibility()).length"""
# Text in folded parts belongs to a summary; what is shown at a hover alone would be in title.
HIDDEN = """() => [...document.querySelectorAll("[title]")].map((one) => one.outerHTML.slice(0, 100))"""

# What is to be stopped at and was not; and images, numbers, reasons that are not shown, or lie in a box that scrolls
# and was not stopped at.
MISSED = """() => [...document.querySelectorAll("a[href], button, summary, input, select, .wide, .plotted")]
  .filter((one) => one.checkVisibility() && !one.hidden && !seen.has(one)
    && !(one.matches(".wide") && one.querySelector(".plotted")))
  .map((one) => one.outerHTML.slice(0, 150))"""
UNSEEN = """() => [...document.querySelectorAll("img, td, dd, .advice, .check p:not(.cue)")].filter((one) => {
  if (!one.checkVisibility()) return true;
  for (let box = one.parentElement; box !== document.body; box = box.parentElement) {
    const scrolls = box.scrollWidth > box.clientWidth + 1 && getComputedStyle(box).overflowX === "auto";
    if (scrolls && ![...seen].some((stop) => box.contains(stop))) return true;
  }
  return false;
}).map((one) => one.outerHTML.slice(0, 150))"""


@pytest.mark.parametrize("kind", KINDS)
def test_no_rule_of_level_a_or_aa_is_broken(kind: str, pages, opened):
    """Two rules ask for colours, and are asked on a thinned page; the others do not know light from dark."""
    colours = {"type": "rule", "values": ["color-contrast", "link-in-text-block"]}
    with opened(pages(kind)) as page:
        page.evaluate(UNFOLD)
        if page.locator("#explorer").count():
            page.locator("#explorer tbody th button").first.click()
        for width in (390, 1300):
            _look(page, width, "light", runOnly=LEVELS, rules={"color-contrast": {"enabled": False}})
        page.evaluate(THIN)
        for width, scheme in SEEN if kind not in ALIKE else (SEEN[0], SEEN[3]):
            _look(page, width, scheme, runOnly=colours)


def _look(page, width: int, scheme: str, **options) -> None:
    page.set_viewport_size({"width": width, "height": 900})
    page.emulate_media(color_scheme=scheme)
    found = axe.Axe().run(page, options={"resultTypes": ["violations"], **options}).response
    assert found["passes"]
    assert not [(v["id"], [n["html"][:200] for n in v["nodes"][:3]]) for v in found["violations"]], (width, scheme)


def test_a_colour_that_is_too_pale_is_found(pages, opened):
    """What the test above leaves out does not hide what it looks for."""
    with opened(pages("main"), bypass_csp=True) as page:
        page.evaluate(UNFOLD)
        page.add_style_tag(content="#settings dd { color: #bbb; } td.soft { color: #ccc; }")
        page.evaluate(THIN)
        with pytest.raises(AssertionError, match="color-contrast"):
            _look(page, 1300, "light", runOnly={"type": "rule", "values": ["color-contrast"]})


@pytest.mark.parametrize("kind", ["main", "audit", "compare", "search"])
def test_the_keyboard_alone_reaches_everything(kind: str, pages, opened):
    with opened(pages(kind)) as page:
        page.keyboard.press("Tab")
        assert page.evaluate("document.activeElement.className") == "skip"
        page.keyboard.press("Enter")
        page.wait_for_function("document.activeElement.id === 'main'")
        page.evaluate("document.activeElement.blur(); getSelection().removeAllRanges(); location.hash = ''")
        for _ in range(60):  # folds open one after the other, those inside of one after it
            if page.locator("main details:not([open]):visible").count() == 0:
                break
            page.locator("main details:not([open]):visible > summary").first.focus()
            page.keyboard.press("Enter")
        assert page.locator("main details:not([open]):visible").count() == 0
        if page.locator("#explorer").count():
            page.locator("#explorer tbody th button").first.focus()
            page.keyboard.press("Enter")
        page.wait_for_timeout(50)  # what is shown now says whether it scrolls
        page.evaluate("document.body.tabIndex = -1; document.body.focus(); window.seen = new Set()")
        for _ in range(page.evaluate(FOCUSABLE) + 5):
            page.keyboard.press("Tab")
            page.evaluate("seen.add(document.activeElement)")
        assert page.evaluate(MISSED) == []
        assert page.evaluate(HIDDEN) == []
        assert page.evaluate(UNSEEN) == []


def test_a_mark_leads_to_its_reason_by_keyboard(pages, opened):
    with opened(pages("main")) as page:
        marks = page.locator("[data-table=robustness] a.mark:not(.trusted)")
        assert marks.count() > 0
        for at in range(marks.count()):
            mark = marks.nth(at)
            assert "fails" in mark.inner_text()
            mark.focus()
            page.keyboard.press("Enter")
            target = mark.get_attribute("href").removeprefix("#")
            page.wait_for_function("(id) => document.activeElement.id === id", arg=target)
            entry = page.locator(f"section.check:has([id='{target}'])")
            assert entry.locator("h3").inner_text() in mark.text_content()
            assert page.locator(f"[id='{target}']").is_visible()


@pytest.mark.parametrize("kind", KINDS)
def test_every_link_in_the_page_leads_somewhere(kind: str, pages, opened):
    with opened(pages(kind)) as page:
        dead = page.evaluate(
            """() => [...document.querySelectorAll("a[href^='#']")]
              .filter((one) => !document.getElementById(decodeURIComponent(one.hash.slice(1))))
              .map((one) => one.outerHTML)"""
        )
        assert dead == []
        ids = page.evaluate("[...document.querySelectorAll('[id]')].map((one) => one.id)")
        assert len(ids) == len(set(ids))


@pytest.mark.parametrize("kind", KINDS)
def test_at_390_pixels_nothing_but_tables_scrolls_sideways(kind: str, pages, opened):
    with opened(pages(kind), width=390) as page:
        page.evaluate(UNFOLD)
        assert page.evaluate("document.documentElement.scrollWidth") <= 390
        wide = page.locator(".scroll.wide")
        page.wait_for_timeout(50)
        for at in range(min(wide.count(), 4)):
            box = wide.nth(at)
            assert box.evaluate(
                "(one) => one.previousElementSibling.textContent + one.previousElementSibling.hidden"
            ).startswith("more")
            before = box.locator("tbody th[scope=row]").first.bounding_box()["x"]
            box.evaluate("(one) => { one.scrollLeft = 60; }")
            page.wait_for_function("(one) => one.classList.contains('before')", arg=box.element_handle())
            assert abs(box.locator("tbody th[scope=row]").first.bounding_box()["x"] - before) <= 1  # it stays
