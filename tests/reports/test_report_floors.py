"""Floor and ceiling in the curves of robust accuracy: the numbers, the share between them, means over seeds."""

from __future__ import annotations

import re
from typing import Any, cast
from xml.etree import ElementTree

import pytest

from robustkit.records.schema import Results
from robustkit.records.schema_proofs import CertifiedResult
from robustkit.reports._charts import charts
from robustkit.reports._curves import HATCH, curves
from robustkit.reports._floors import Floor, floor_points


def certified(ensemble: str, eps: float, floor: float, ceiling: float | None) -> CertifiedResult:
    open_ = None if ceiling is None else ceiling - floor
    row = {"ensemble": ensemble, "eps": eps, "norm": "linf", "n": 50, "clean_accuracy": 0.98, "floor": floor,
           "ceiling": ceiling, "unsettled": open_, "contradicted": 0, "proven": False, "alone": [floor], "notes": [],
           "all_alone": floor, "slack": 1e-5, "seconds": 1.0, "fusion": "mean-prob"}  # fmt: skip
    return cast(CertifiedResult, row)


@pytest.fixture
def proven(results: Results) -> Results:
    results["certified"] = [certified("adp", 8 / 255, 0.02, 0.1), certified("adp", 4 / 255, 0.3, 0.52)]
    return results


def test_points_begin_with_the_clean_accuracy_of_the_same_samples(proven: Results):
    assert floor_points(proven) == {
        ("linf", "adp"): [Floor(0, 0.98, 0.98), Floor(4 / 255, 0.3, 0.52), Floor(8 / 255, 0.02, 0.1)]
    }
    proven["certified"] = [certified("adp", 4 / 255, 0.3, None), certified("gone", 4 / 255, 0.3, 0.4)]
    assert floor_points(proven) == {}


def test_over_seeds_floors_are_means(proven: Results):
    first = proven["ensembles"][0]
    proven["ensembles"] = [cast(Any, {**first, "id": f"adp-seed{s}", "group": "adp", "seed": s}) for s in (0, 1)]
    cast(Any, proven)["over_seeds"] = [{}]
    proven["certified"] = [
        certified("adp-seed0", 0.1, 0.2, 0.5), certified("adp-seed1", 0.1, 0.4, 0.7), certified("adp-seed1", 0.2, 0, 1)
    ]  # fmt: skip
    assert floor_points(proven) == {("linf", "adp"): [Floor(0, 0.98, 0.98), Floor(0.1, pytest.approx(0.3), 0.6)]}


def test_the_figure_has_the_floor_the_hatched_band_and_its_share(proven: Results):
    figure = curves(proven)
    axes = figure.subfigs[0].axes[0]
    (line,) = [line for line in axes.lines if line.get_marker() == "^"]
    assert list(line.get_ydata()) == pytest.approx([98, 30, 2])
    (between,) = [band for band in axes.collections if band.get_hatch() == HATCH]
    heights = {round(float(y), 6) for _, y in between.get_paths()[0].vertices}
    assert heights == {98.0, 30.0, 52.0, 2.0, 10.0}
    assert [text.get_text() for text in axes.texts] == ["22.0 %", "8.0 %"]
    said = {t.get_text() for legend in figure.subfigs[1].axes[0].artists for t in legend.get_texts()}
    assert {"certified", "settled by neither, and its share"} <= said


def test_the_chart_of_the_page_says_the_same(proven: Results):
    one = next(c for c in charts(proven) if c.name == "robust-accuracy")
    groups = [g for g in ElementTree.fromstring(one.panels[0].svg).iter("g") if g.get("data-name") == "adp, certified"]
    titles = [title.text or "" for g in groups for title in g.iter("title")]
    assert titles == [
        "adp, certified, eps 4/255: 30.0 %, neither settles 22.0 %",
        "adp, certified, eps 8/255: 2.0 %, neither settles 8.0 %",
    ]
    (table,) = one.tables
    assert [cell.text for cell in table.rows[-1]][:4] == ["adp", "certified", "-", "30.0 %, neither settles 22.0 %"]
    assert "certified" in [entry.text for title, part in one.legend if title == "Attack" for entry in part]
    assert re.search("settled by neither", one.note)


def test_without_floors_nothing_is_added(results: Results):
    assert not [line for line in curves(results).subfigs[0].axes[0].lines if line.get_marker() == "^"]
    one = next(c for c in charts(results) if c.name == "robust-accuracy")
    assert "certified" not in str(one.panels[0].svg) + one.note
