"""The charts in a browser: keys and the pointer read the numbers, the legend hides, nothing is too wide or small."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from robustkit import reports

ROBUST = {"plain": (0.64, 0.052), "a<b> & 'c'": (0.684, 0.116)}
MATRIX = [[0.1, 0.55, 0.3], [0.6, 0.2, 0.35], [0.25, 0.3, 0.05]]


def results() -> Any:
    """Return two ensembles under one attack at two budgets, and what transfers between their members."""
    runs = [
        {"ensemble": one, "attack": "pgd", "backend": "native", "params": {"steps": 10}, "eps": eps, "norm": "linf",
         "targeted": False, "clean_accuracy": 0.9, "robust_accuracy": share, "ci95": [share - 0.03, share + 0.03],
         "mean_l0": 0.5, "mean_l1": 1.0, "mean_l2": 1.0, "mean_linf": eps, "forwards": 10.0, "backwards": 10.0,
         "seconds": 1.0, "verdict": "trusted", "checks": []}
        for one, shares in ROBUST.items() for eps, share in zip((4 / 255, 8 / 255), shares, strict=True)
    ]  # fmt: skip
    names = ["member 0", "member 1", "ensemble"]
    empty = (
        "worst_case", "minimum_norm", "escalation", "surrogates", "audit", "detection", "ood", "calibration",
        "corruptions", "diversity", "pools",
    )  # fmt: skip
    return {
        "schema_version": 1, "robustkit_version": "0", "seed": 0, "environment": {},
        "dataset": {"name": "digits", "split": "test", "n": 500, "classes": ["0", "1"], "sha256": "cd" * 32},
        "ensembles": [
            {"id": one, "defense": one, "params": {}, "arch": "lenet", "members": 2, "weights_sha256": "ab" * 32,
             "accuracy": 0.9, "member_accuracy": [0.9, 0.9]}
            for one in ROBUST
        ],
        "evaluations": runs,
        "transfer": [
            {"ensemble": one, "attack": "pgd", "params": {"steps": 10, "eps": 8 / 255, "norm": "linf"},
             "targeted": False, "metric": "accuracy", "sources": names, "targets": names, "matrix": MATRIX}
            for one in ROBUST
        ],
        **{key: [] for key in empty},
    }  # fmt: skip


@pytest.fixture(scope="module")
def page(browser: Any, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    """Return the page as wide as a phone; an error of its scripts or its policy fails the test."""
    (file,) = reports.write(json.loads(json.dumps(results())), tmp_path_factory.mktemp("charts"), ["html"])
    shown, wrong = browser.new_page(viewport={"width": 390, "height": 900}), list[str]()
    shown.on("pageerror", lambda error: wrong.append(str(error)))
    shown.on("console", lambda m: wrong.append(m.text) if m.type in ("error", "warning") else None)
    shown.goto(Path(file).as_uri())
    shown.evaluate("document.querySelectorAll('details.part').forEach((one) => { one.open = true; })")
    yield shown
    shown.close()
    assert not wrong


def read(page: Any, name: str, *keys: str) -> str:
    box = page.locator(f"#chart-{name} .plotted").first
    box.focus()
    for key in keys:
        page.keyboard.press(key)
    text = page.locator(f"#chart-{name} .readout").inner_text()
    assert page.locator("#said").text_content() == text  # a screen reader hears the same
    return str(text)


def test_arrow_keys_walk_through_the_series(page: Any) -> None:
    assert read(page, "robust-accuracy", "Home").startswith("plain, pgd-10, clean: 90.0 %")
    assert read(page, "robust-accuracy", "ArrowRight") == "plain, pgd-10, eps 4/255: 64.0 % [61.0, 67.0], trusted"
    assert read(page, "robust-accuracy", "End") == "plain, pgd-10, eps 8/255: 5.2 % [2.2, 8.2], trusted"
    assert read(page, "robust-accuracy", "ArrowDown").startswith("a<b> & 'c', pgd-10, eps 8/255: 11.6 %")
    assert page.locator("#chart-robust-accuracy .cursor").count() == 1
    page.keyboard.press("Escape")
    assert page.locator("#chart-robust-accuracy .cursor").count() == 0


def test_arrow_keys_walk_through_a_matrix(page: Any) -> None:
    name = "transfer-pgd-10-8-255-accuracy"
    found = [read(page, name, key) for key in ("Home", "ArrowRight", "ArrowDown", "End", "ArrowDown")]
    assert found == [
        "crafted on member 0, scored on member 0: 10.0", "crafted on member 0, scored on member 1: 55.0",
        "crafted on member 1, scored on member 1: 20.0", "crafted on member 1, scored on ensemble: 35.0",
        "crafted on ensemble, scored on ensemble: 5.0",
    ]  # fmt: skip


def test_the_pointer_reads_what_is_near(page: Any) -> None:
    mark = page.locator("#chart-robust-accuracy g.c0 use").nth(2)
    mark.scroll_into_view_if_needed()
    box = mark.bounding_box()
    page.mouse.move(box["x"] + box["width"] / 2 - 4, box["y"] + box["height"] / 2 + 3)
    page.wait_for_function(
        "document.querySelector('#chart-robust-accuracy .readout').textContent.includes('8/255: 5.2 %')"
    )


def test_a_marker_stands_where_its_number_is(page: Any) -> None:
    places = page.evaluate("""() => {
        const middle = (one) => { const box = one.getBoundingClientRect(); return box.y + box.height / 2; };
        const svg = document.querySelector("#chart-robust-accuracy .plot");
        const rows = [...svg.querySelectorAll(".grid line")].map(middle);
        return [rows[0], rows.at(-1), middle(svg.querySelectorAll("g.c0 use")[1])];
    }""")
    zero, hundred, mark = places
    assert (zero - mark) / (zero - hundred) == pytest.approx(0.64, abs=0.01)


def test_the_legend_hides_and_shows(page: Any) -> None:
    off, button = page.locator("#chart-robust-accuracy .series.off"), page.locator(".legend button", has_text="plain")
    button.first.click()
    assert off.count() > 0
    assert button.first.get_attribute("aria-pressed") == "false"
    assert read(page, "robust-accuracy", "Home").startswith("a<b> & 'c'")
    button.first.click()
    assert off.count() == 0


def test_texts_are_legible_and_the_page_no_wider_than_a_phone(page: Any) -> None:
    heights = page.evaluate(
        "[...document.querySelectorAll('figure.chart svg text')]"
        ".map((one) => parseFloat(getComputedStyle(one).fontSize))"
    )
    assert min(heights) >= 12
    scales = page.evaluate("[...document.querySelectorAll('.plot, .matrix')].map((one) => one.getScreenCTM().a)")
    assert min(scales) >= 1  # nothing shrinks them
    assert page.evaluate("document.documentElement.scrollWidth") <= 390
