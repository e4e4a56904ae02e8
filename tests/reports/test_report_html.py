"""The HTML report holds everything, loads nothing, and believes no name."""

from __future__ import annotations

import base64
import hashlib
import re
from html.parser import HTMLParser
from pathlib import Path

import pytest

from robustkit.records.schema import Results
from robustkit.reports import write

VOID = {"meta", "img", "br", "link", "input", "hr"}


class Page(HTMLParser):
    """Collects tags, attributes and text; fails on tags that do not nest."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.text = ""
        self.feed(text)
        assert self.open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if not {"style", "script"} & set(self.open):
            self.text = " ".join(f"{self.text} {data}".split())


def render(results: Results, out: Path) -> tuple[str, Page]:
    paths = write(results, out, ["html"])
    assert paths == [out / "report.html"]
    assert [p.name for p in out.iterdir()] == ["report.html"]
    text = paths[0].read_text("utf-8")
    return text, Page(text)


@pytest.fixture(scope="module")
def rendered(unchanged: Results, tmp_path_factory: pytest.TempPathFactory) -> tuple[str, Page]:
    """Return the page of the unchanged results, drawn once: its figures take a second."""
    return render(unchanged, tmp_path_factory.mktemp("page"))


def test_numbers_and_headline(rendered: tuple[str, Page]) -> None:
    _, page = rendered
    assert "adp keeps 8.7 % [8.1, 9.3], baseline 3.9 % [3.6, 4.2]: +4.8 points." in page.text
    assert "8.7 % [8.1, 9.3] Worst-case robust accuracy at eps 8/255" in page.text
    assert "Clean accuracy 99.2 %" in page.text
    assert "44.8 ? suspect, fails iterations-suffice [40.8, 48.8]" in page.text
    assert "Run again with --set pgd.steps=100: twice the steps break more samples." in page.text
    assert "Failed by 8 of 8 numbers. It fails above 100.0 %." in page.text
    assert "adp 8/255 325.0 ? suspect 325.0 ? suspect 0.05" in page.text
    assert "Find the NaN first." in page.text
    assert "device.threads 2" in page.text
    assert "5 of 12 numbers are not trusted" in page.text
    assert "digits, test split, n = 500, 10 classes" in page.text


def test_self_contained(rendered: tuple[str, Page]) -> None:
    text, page = rendered
    assert not re.search(r"https?:", text.replace("http://www.w3.org/", ""))
    assert not {"link", "iframe", "object", "base", "form"} & {tag for tag, _ in page.tags}
    assert not re.search(r"@import|url\(", text)
    assert all((a.get("src") or "").startswith("data:image/") for tag, a in page.tags if tag == "img")
    assert all(a.get("alt") for tag, a in page.tags if tag == "img")


def test_only_its_own_styles_and_scripts_may_run(rendered: tuple[str, Page]) -> None:
    text, page = rendered
    policy = next(a["content"] or "" for tag, a in page.tags if a.get("http-equiv") == "Content-Security-Policy")
    rules = dict(rule.split(" ", 1) for rule in policy.split("; "))
    assert rules["default-src"] == rules["base-uri"] == rules["form-action"] == "'none'"
    assert rules["img-src"] == "data:"
    for kind, element in (("style-src", "style"), ("script-src", "script")):
        inside = re.findall(rf"<{element}>(.*?)</{element}>", text, re.DOTALL)
        hashes = [base64.b64encode(hashlib.sha256(one.encode()).digest()).decode() for one in inside]
        assert inside
        assert rules[kind].split() == [f"'sha256-{one}'" for one in hashes]
    assert not [name for _, attrs in page.tags for name in attrs if name == "style" or name.startswith("on")]


def test_names_are_escaped(results: Results, tmp_path: Path) -> None:
    bad = '<script>alert("1")</script>'
    for kind in ("ensembles", "evaluations", "worst_case", "transfer"):
        for item in results[kind]:  # type: ignore[literal-required]
            key = "id" if kind == "ensembles" else "ensemble"
            item[key] = bad if item[key] == "adp" else item[key]
    results["evaluations"][1]["checks"][1]["advice"] = '<img src=x onerror=alert(1)>" onmouseover="x'
    results["environment"]["<b>"] = "<i>"
    text, page = render(results, tmp_path)
    assert text.count("<script") == 2  # ours
    assert "onerror" not in {name for _, attrs in page.tags for name in attrs}
    assert "onmouseover" not in {name for _, attrs in page.tags for name in attrs}
    assert bad in page.text


def test_empty(empty: Results, tmp_path: Path) -> None:
    _, page = render(empty, tmp_path)
    assert "No ensemble was evaluated." in page.text
    assert "No attack was run." in page.text
    assert "There is no number to judge." in page.text


def test_notes_bear_the_marks_of_the_page_and_equal_settings_stand_once(rendered: tuple[str, Page]) -> None:
    _, page = rendered
    assert "Verdicts: \N{CHECK MARK} trusted, ~ unchecked, ? suspect, ! invalid." in page.text
    assert "+ trusted" not in page.text
    assert "fgsm, targeted at 4/255, 8/255, 0.05 (native)" in page.text


@pytest.mark.parametrize("missing", ["ensembles", "evaluations", "worst_case", "transfer"])
def test_each_part_may_be_missing(results: Results, tmp_path: Path, missing: str) -> None:
    results[missing] = []  # type: ignore[literal-required]
    if missing == "ensembles":  # numbers of an ensemble that is not listed
        results["transfer"] = []
    render(results, tmp_path)


def test_all_trusted(results: Results, tmp_path: Path) -> None:
    results["transfer"] = []  # their heatmaps take a second, and say nothing of trust
    for e in (*results["evaluations"], *results["worst_case"]):
        e |= {"verdict": "trusted", "checks": []}
    _, page = render(results, tmp_path)
    assert "Every check of every number passed." in page.text
    assert "All 12 numbers are trusted." in page.text


def test_escalation_appears_with_its_reasons(results: Results, tmp_path: Path) -> None:
    _, page = render(results, tmp_path)
    assert "Escalation: what followed on suspect worst cases" in page.text
    assert "pgd (200 steps, 5 restarts) iterations-suffice, fusion-swap 9.4" in page.text
    results["escalation"] = []
    (tmp_path / "report.html").unlink()
    assert "Escalation" not in render(results, tmp_path)[1].text
