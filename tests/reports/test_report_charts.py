"""Charts of the page say the numbers of results.json: read back from the SVG, by coordinates, texts and tables."""

from __future__ import annotations

import json
import math
import re
import subprocess
import sys
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest

from robustkit.records.schema import Results
from robustkit.reports import _figures, write
from robustkit.reports import _format as f
from robustkit.reports._charts import Chart, charts
from robustkit.reports._charts._matrix import LEVELS, level
from robustkit.reports._labels import ordered

EVIL = "<img src=x onerror=alert(1)>\"'&</svg>"
TEMPLATES = Path(sys.modules["robustkit.reports"].__file__ or "").parent / "_page" / "templates"


def chart(results: Results, name: str) -> Chart:
    return next(one for one in charts(results) if one.name == name)


def tree(svg: str) -> ElementTree.Element:
    return ElementTree.fromstring(svg)


def paths(svg: str) -> dict[str, list[tuple[float, float]]]:
    """Return the points of every line that is no band, by the classes that say which series it is."""
    found = {}
    for path in tree(svg).iter("path"):
        classes = (path.get("class") or "").split()
        if "line" in classes or "dots" in classes:
            pairs = re.findall(r"[ML](\S+) ([^MLh]+)", path.get("d") or "")
            numbers = [(float(x), float(y)) for x, y in pairs]
            found[path.get("data-name") or " ".join(classes)] = numbers
    return found


def placed(svg: str) -> dict[str, list[tuple[float, float]]]:
    """Return the numbers of all markers by series: their percentages, in the units of the panel's axes."""
    root = tree(svg)
    box = next(one for one in root.iter("svg") if one.get("class") == "area").get("viewBox") or ""
    left, top, width, height = map(float, box.split())
    found: dict[str, list[tuple[float, float]]] = {}
    for group in root.iter("g"):
        for mark in group.findall("use"):
            if group.get("data-name") and mark.get("class") != "over":
                x, y = (float((mark.get(key) or "").rstrip("%")) / 100 for key in ("x", "y"))
                found.setdefault(str(group.get("data-name")), []).append((left + x * width, -(top + y * height)))
    return found


def titles(svg: str, name: str) -> list[str]:
    groups = [g for g in tree(svg).iter("g") if g.get("data-name") == name]
    return [title.text or "" for g in groups for title in g.iter("title")]


def near(found: Any, wanted: Any) -> bool:
    return len(found) == len(wanted) and all(
        a == pytest.approx(b, rel=1e-4, abs=1e-4) for a, b in zip(found, wanted, strict=True)
    )


def test_curves_are_the_robust_accuracies(results: Results) -> None:
    one = chart(results, "robust-accuracy")
    (panel,) = one.panels
    marks = placed(panel.svg)
    clean = {e["id"]: e["accuracy"] for e in results["ensembles"]}
    for ensemble in ("baseline", "adp"):
        own = [e for e in results["evaluations"] if e["ensemble"] == ensemble and e["params"].get("steps") == 100]
        wanted = [(0.0, clean[ensemble]), *((e["eps"], e["robust_accuracy"]) for e in own)]
        assert near(marks[f"{ensemble}, pgd-100"], wanted)
        worst = [w for w in results["worst_case"] if w["ensemble"] == ensemble]
        wanted = [(0.0, clean[ensemble]), *((w["eps"], w["robust_accuracy"]) for w in worst)]
        assert near(marks[f"{ensemble}, worst case"], wanted)
        drawn = [[(x, y) for x, y in points] for points in paths(panel.svg).values()]
        assert any(near(points, wanted) for points in drawn)
    assert len(marks) == 10  # four attacks and the worst case, on two ensembles
    said = titles(panel.svg, "baseline, pgd-100")
    assert said[1].startswith("baseline, pgd-100, eps 4/255: 64.0 % [")
    assert said[0].startswith("baseline, pgd-100, clean: ")


def test_verdicts_are_shapes_and_words(results: Results) -> None:
    (panel,) = chart(results, "robust-accuracy").panels
    uses = [use for use in tree(panel.svg).iter("use") if use.find("title") is not None]
    for verdict in ("trusted", "suspect", "invalid"):
        own = [e for e in (*results["evaluations"], *results["worst_case"]) if e["verdict"] == verdict]
        shown = [use for use in uses if use.get("class") == verdict]
        assert len(shown) == len(own) > 0
        assert all((use.find("title").text or "").endswith(f", {verdict}") for use in shown)  # type: ignore[union-attr]
    over = [use.get("href") for use in tree(panel.svg).iter("use") if use.get("class") == "over"]
    assert set(over) == {"#k-suspect", "#k-invalid"}


def test_the_table_of_the_curves_has_the_same_numbers(results: Results) -> None:
    (table,) = chart(results, "robust-accuracy").tables
    row = next(row for row in table.rows if (row[0].text, row[1].text) == ("adp", "pgd-10"))
    assert [cell.text.split(" %")[0] for cell in row[2:]] == ["99.2", "79.0", "44.8", "20.4"]
    assert table.columns[2:] == ["clean", "4/255", "8/255", "0.05"]
    assert [row[0].text for row in table.rows] == ["baseline"] * 5 + ["adp"] * 5  # the worst case beside its attacks


def test_an_attack_at_one_budget_is_a_point_and_is_not_extended_to_zero(results: Results) -> None:
    results["evaluations"] = [
        e for e in results["evaluations"] if e["params"].get("steps") != 100 or e["eps"] == 8 / 255
    ]
    (panel,) = chart(results, "robust-accuracy").panels
    assert near(placed(panel.svg)["adp, pgd-100"], [(8 / 255, 0.116)])
    (table,) = chart(results, "robust-accuracy").tables
    row = next(row for row in table.rows if (row[0].text, row[1].text) == ("adp", "pgd-100"))
    assert [cell.text for cell in row][3::2] == [f.NONE, f.NONE]


def test_one_evaluation_alone(results: Results) -> None:
    results["evaluations"], results["worst_case"] = results["evaluations"][:1], []
    results["evaluations"][0]["eps"] = 0.0
    (panel,) = chart(results, "robust-accuracy").panels
    assert len(placed(panel.svg)) == 1


def test_eight_ensembles_with_long_names_are_told_apart_without_colour(results: Results) -> None:
    first = results["ensembles"][0]
    for at in range(6):
        name = f"an-ensemble-with-quite-a-long-name-that-wraps-in-a-legend-{at}"
        results["ensembles"].append({**first, "id": name})
        results["evaluations"] += [{**e, "ensemble": name} for e in results["evaluations"] if e["ensemble"] == "adp"]
        results["transfer"].append({**results["transfer"][0], "ensemble": name})
    one = chart(results, "robust-accuracy")
    legend = dict(one.legend)
    assert len(legend["Ensemble"]) == 8
    shapes = [re.search(r'href="#(k\d)"', entry.swatch) for entry in legend["Ensemble"]]
    assert len({match.group(1) for match in shapes if match}) == 8
    dashes = [re.search(r"line (d\d)( heavy)?", entry.swatch) for entry in legend["Attack"]]
    assert len({match.group(0) for match in dashes if match}) == 5
    assert {entry.text for entry in legend["Ensemble"]} == {e["id"] for e in results["ensembles"]}
    matrices = chart(results, "transfer-pgd-10-8-255-accuracy")
    assert len(matrices.panels) == 8
    assert any(panel.title.endswith("legend-5") for panel in matrices.panels)


def test_distances_are_the_steps_of_the_results(results: Results) -> None:
    one = chart(results, "distortion")
    (panel,) = one.panels
    for run in results["minimum_norm"]:
        name = f"{run['ensemble']}, {run['attack']}"
        drawn = paths(panel.svg)[name]
        assert near(drawn[-1:], [(run["eps"][-1], run["accuracy"][-1])])
        assert {x for x, _ in drawn} == {float(f"{x:.6g}") for x in run["eps"]}
        assert {y for _, y in drawn} == {float(f"{y:.6g}") for y in run["accuracy"]}
    marks = placed(panel.svg)
    assert {name: [x for x, _ in points] for name, points in marks.items()} == {
        f"{run['ensemble']}, {run['attack']}": [pytest.approx(run["median"], rel=1e-4)]
        for run in results["minimum_norm"]
        if run["median"] is not None
    }


def test_matrices_say_their_numbers_three_times(results: Results) -> None:
    found = [one for one in charts(results) if one.kind == "transfer"]
    assert len(found) == 3
    for one in found:
        group = [t for t in results["transfer"] if f.slug(t["metric"]) == one.name[-len(f.slug(t["metric"])) :]]
        group = [t for t in group if (t["metric"].endswith("common-correct")) == one.name.endswith("common-correct")]
        order = [e["id"] for e in ordered(results)]
        for t, panel, table in zip(
            sorted(group, key=lambda t: order.index(t["ensemble"])), one.panels, one.tables, strict=True
        ):
            cells = next(g for g in tree(panel.svg).iter("g") if g.get("class") == "cells")
            texts = [[str(f.percent(value)) for value in row] for row in t["matrix"]]
            assert [text.text for text in cells.iter("text")] == [text for row in texts for text in row]
            assert [[str(cell) for cell in row[1:]] for row in table.rows] == texts
            low_transfers = t["metric"].startswith("accuracy")
            shades = [int((g.get("class") or "")[1:]) for g in cells]
            wanted = [round(20 * (1 - v if low_transfers else v) + 1e-9) for row in t["matrix"] for v in row]
            assert all(abs(a - b) <= 1 for a, b in zip(shades, wanted, strict=True))
            assert panel.title == t["ensemble"]


def test_levels_of_colour() -> None:
    assert [level(v, 0.0, 1.0) for v in (-1.0, 0.0, 0.5, 1.0, 2.0)] == [0, 0, 10, LEVELS, LEVELS]
    assert [level(v, 0.0, 1.0, reverse=True) for v in (0.0, 0.05, 1.0)] == [LEVELS, 19, 0]
    assert level(3.0, 3.0, 3.0) == 0


def test_names_are_escaped_and_every_drawing_is_well_formed(results: Results) -> None:
    for kind in ("ensembles", "evaluations", "worst_case", "transfer", "minimum_norm"):
        for item in results[kind]:  # type: ignore[literal-required]
            key = "id" if kind == "ensembles" else "ensemble"
            item[key] = EVIL if item[key] == "adp" else item[key]
    for t in results["transfer"]:
        t["sources"] = t["targets"] = [*t["targets"][:-1], EVIL]
    for one in charts(results):
        for panel in one.panels:
            root = tree(panel.svg)
            assert {element.tag for element in root.iter()} <= {
                "svg", "g", "title", "desc", "path", "line", "rect", "text", "use"
            }  # fmt: skip
            assert not any(name.startswith("on") or name == "style" for e in root.iter() for name in e.attrib)
    said = [title.text or "" for p in chart(results, "robust-accuracy").panels for title in tree(p.svg).iter("title")]
    assert any(text.startswith(EVIL) for text in said)


@pytest.mark.parametrize("bad", [math.nan, math.inf])
def test_no_coordinate_is_ever_no_number(results: Results, bad: float) -> None:
    for t in results["transfer"]:
        t["matrix"][0][0] = bad
    results["minimum_norm"][0]["eps"][-1] = bad
    results["minimum_norm"][0]["accuracy"][0] = bad
    results["evaluations"][0]["robust_accuracy"] = bad
    for one in charts(results):
        for panel in one.panels:
            for element in tree(panel.svg).iter():
                for key in ("d", "x", "y", "x1", "x2", "y1", "y2", "viewBox", "width", "height", "transform"):
                    assert not re.search(r"nan|inf", element.get(key) or "", re.IGNORECASE)


def test_the_page_has_each_anchor_once_and_needs_no_matplotlib(results: Results, tmp_path: Path) -> None:
    (page,) = write(results, tmp_path, ["html"])
    text = page.read_text("utf-8")
    anchors = re.findall(r'\sid="([^"]+)"', text)
    assert sorted(set(anchors)) == sorted(anchors)
    assert set(re.findall(r'aria-(?:labelledby|describedby)="([^"]+)"', text)) <= set(anchors)
    assert set(re.findall(r'<use [^>]*href="#([^"]+)"', text)) <= set(anchors)
    assert text.count('role="img"') == sum(len(one.panels) for one in charts(results))
    code = (
        "import json, sys; from robustkit.reports import write; from pathlib import Path; "
        "write(json.loads(sys.stdin.read()), Path(sys.argv[1]), ['html']); "
        "assert not {'matplotlib', 'torch', 'scipy.optimize'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code, str(tmp_path)], input=json.dumps(results), text=True, check=True)


def test_every_figure_for_papers_has_a_chart(results: Results) -> None:
    assert [one.name for one in charts(results)] == [d.name for d in _figures.drawings(results)]


def luminance(colour: str) -> float:
    wide = "".join(2 * letter for letter in colour) if len(colour) == 3 else colour
    parts = [int(wide[at : at + 2], 16) / 255 for at in (0, 2, 4)]
    linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in parts]
    return sum(w * c for w, c in zip((0.2126, 0.7152, 0.0722), linear, strict=True))


def contrast(one: str, other: str) -> float:
    light, dark = sorted((luminance(one), luminance(other)), reverse=True)
    return (light + 0.05) / (dark + 0.05)


def test_numbers_read_on_every_colour_of_the_scale() -> None:
    css = (TEMPLATES / "_charts.css").read_text()
    found = re.findall(r"\.h(\d+) \{ --h: #(\w+); --t: #(\w+); \}", css)
    assert [int(at) for at, _, _ in found] == list(range(LEVELS + 1))
    assert all(contrast(shade, ink) >= 4.5 for _, shade, ink in found)
    lights = [luminance(shade) for _, shade, _ in found]
    assert lights == sorted(lights, reverse=True)  # dark is always more


def test_series_stand_out_in_light_and_dark() -> None:
    css = (TEMPLATES / "_style.css").read_text() + (TEMPLATES / "_charts.css").read_text()
    found = re.findall(r"--(\w+): light-dark\(#(\w+), #(\w+)\)", css)
    pairs = {name: both for name, *both in found}
    for at in range(8):
        for scheme in (0, 1):
            assert contrast(pairs[f"s{at}"][scheme], pairs["paper"][scheme]) >= 3
