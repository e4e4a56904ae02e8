"""Charts of the suites and pools say the numbers of results.json; what is missing is left out, and nothing else."""

from __future__ import annotations

import re
from typing import Any
from xml.etree import ElementTree

import pytest

from robustkit.reports import _format as f
from robustkit.reports._charts.calibration import calibration
from robustkit.reports._charts.corruptions import corruptions
from robustkit.reports._charts.detection import detection
from robustkit.reports._charts.diversity import diversity
from robustkit.reports._charts.ood import ood
from robustkit.reports._charts.pools import MOST, pools

FPR, TPR = [0.0, 0.04, 0.2, 1.0], [0.0, 0.31, 0.72, 1.0]
ENSEMBLES = {"ensembles": [{"id": "one", "defense": "baseline"}, {"id": "two", "defense": "adp"}]}


def made(kind: Any, **found: Any) -> list[Any]:
    empty = dict.fromkeys(("detection", "ood", "calibration", "corruptions", "diversity", "pools"), [])
    return list(kind({**ENSEMBLES, **empty, **found}))


def drawn(panel: Any, name: str) -> list[tuple[float, float]]:
    """Return the points of a line or of dots, as the path has them."""
    (path,) = [p for p in ElementTree.fromstring(panel.svg).iter("path") if p.get("data-name") == name]
    return [(float(x), float(y)) for x, y in re.findall(r"[ML](\S+) ([^MLh]+)", path.get("d") or "")]


def texts(panel: Any) -> list[str | None]:
    root = ElementTree.fromstring(panel.svg)
    return [text.text for g in root.iter("g") if g.get("class") == "cells" for text in g.iter("text")]


def score(name: str, auroc: float | None = 0.8, curve: bool = True) -> dict[str, Any]:
    return {"score": name, "auroc": auroc, "ci95": None, "fpr": FPR if curve else [], "tpr": TPR if curve else []}


def test_detection_is_its_curves() -> None:
    rows = [
        {**score(name), "ensemble": "one", "attack": "worst", "of": "pgd", "labels": "predicted", "adaptive": adaptive,
         "eps": 8 / 255, "norm": "linf"}
        for name in ("msp", "energy") for adaptive in (False, True)
    ]  # fmt: skip
    rows += [{**row, "attack": "pgd"} for row in rows]
    (chart,) = made(detection, detection=rows)
    assert [panel.title for panel in chart.panels] == ["attacker ignores the detector", "attacker knows the detector"]
    for panel in chart.panels:
        assert drawn(panel, "msp") == list(zip(FPR, TPR, strict=True))
        assert ": AUROC 0.800" in panel.svg
    (table,) = chart.tables
    # At false-positive rates of .01, .05, .1, .2 and .5: the last point that is no further to the right.
    assert [str(cell) for cell in table.rows[0][2:]] == ["0.800", "0.0", "31.0", "31.0", "72.0", "72.0"]


def test_ood_is_a_heatmap_and_curves_and_leaves_out_what_is_not_defined() -> None:
    sets = [
        {"name": "noise", "distance": "far", "n": 50, "scores": [score("msp", 0.8), score("mal", None, curve=False)]}
    ]
    means = [{"distance": "far", "score": "msp", "auroc": 0.8}, {"distance": "far", "score": "mal", "auroc": None}]
    heat, curves = made(ood, ood=[{"ensemble": "one", "n": 100, "sets": sets, "means": means}])
    assert texts(heat.panels[0]) == ["80.0", "80.0", f.NONE, f.NONE]
    (panel,) = curves.panels
    assert drawn(panel, "msp") == list(zip(FPR, TPR, strict=True))
    assert 'data-name="mal"' not in panel.svg
    assert [str(cell) for cell in curves.tables[0].rows[1][2:]] == [f.NONE] * 6


def test_reliability_bars_are_accuracies_and_stand_on_their_bins() -> None:
    bins = [
        {"low": 0.0, "high": 0.5, "count": 0, "confidence": None, "accuracy": None},
        {"low": 0.5, "high": 1.0, "count": 20, "confidence": 0.9, "accuracy": 0.75},
    ]
    quality = {"nll": 0.5, "ece": 0.15, "brier": 0.3, "bins": bins}
    about = {"ensemble": "one", "n": 20, "temperature": None, "accuracy": 0.75, "after": None, "notes": []}
    rows = [{**about, "output": name, "before": quality} for name in ("ensemble", "member-0")]
    (chart,) = made(calibration, calibration=rows)
    before, after = chart.panels
    assert after.title == "one: no temperature could be fitted"
    root = ElementTree.fromstring(before.svg)
    box = next(one for one in root.iter("svg") if one.get("class") == "area").get("viewBox") or ""
    _, top, _, height = map(float, box.split())
    bars = [one for one in root.iter("rect") if one.get("class") == "bar"]
    assert len(bars) == 1  # an empty bin has none
    x, y, wide, tall = (float((bars[0].get(key) or "").rstrip("%")) / 100 for key in ("x", "y", "width", "height"))
    assert (x, wide) == (0.5, 0.5)
    assert (-(top + y * height), tall * height) == pytest.approx((0.75, 0.75), rel=1e-4)
    assert "mean 90.0, accuracy 75.0, 20 samples" in before.svg
    row = [str(cell) for cell in chart.tables[0].rows[0]]
    assert row == ["ensemble", "50.0 to 100.0", "20", "90.0", "75.0", *[f.NONE] * 3]


def test_corruptions_that_were_not_run_are_empty_cells() -> None:
    levels = [
        {"corruption": "fog", "severity": 1, "accuracy": 0.5}, {"corruption": "fog", "severity": 2, "accuracy": 0.25},
        {"corruption": "snow_storm", "severity": 2, "accuracy": 1.0},
    ]  # fmt: skip
    rows = [{"ensemble": "one", "suite": "mine", "clean_accuracy": 0.9, "levels": levels}]
    (chart,) = made(corruptions, corruptions=rows)
    assert texts(chart.panels[0]) == ["50.0", "25.0", f.NONE, "100.0"]
    assert chart.shown == ["corruptions-mine"]
    assert chart.panels[0].title == "one, clean 90.0 %"


def test_pairs_cosines_and_layers_of_members() -> None:
    names = (
        "oracle-disagreement", "label-disagreement", "q-statistic", "correlation", "double-fault", "error-ratio",
        "label-mutual-information",
    )  # fmt: skip
    pairs = [
        {"name": name, "mean": 0.4, "matrix": [[0.0, 0.4], [0.4, 0.0]], "infinite": [], "undefined": 0}
        for name in names
    ]
    pairs[5] |= {"matrix": [[None, None], [None, None]], "infinite": [[0, 1]]}
    cosines = {"maps": "saliency", "mean": 0.5, "edges": [-1.0, 0.0, 0.5, 1.0], "counts": [0, 1, 3]}
    layers = [{"members": [0, 1], "layers": [["net.a", "net.b"]] * 2, "matrix": [[1.0, None], [0.25, 0.5]]}]
    row = {
        "ensemble": "one", "members": 2, "pairwise": pairs, "attributions": {"cosines": [cosines]}, "layers": layers
    }  # fmt: skip
    matrices, distribution, cka = made(diversity, diversity=[row])
    assert texts(matrices.panels[0]) == [f.NONE, "40.0", "40.0", f.NONE]
    assert texts(matrices.panels[5]) == [f.NONE, "inf", "inf", f.NONE]
    outline = drawn(distribution.panels[0], "one")
    assert outline == [(0.0, 0.25), (0.5, 0.25), (0.5, 0.75), (1.0, 0.75)]
    assert [[str(cell) for cell in row] for row in distribution.tables[0].rows] == [
        ["0.00 to 0.50", "1"], ["0.50 to 1.00", "3"], ["mean", "0.5"]
    ]  # fmt: skip
    assert texts(cka.panels[0]) == ["1.00", f.NONE, "0.25", "0.50"]


@pytest.mark.parametrize("count", [3, MOST + 500])
def test_dots_of_a_pool_are_its_subsets(count: int) -> None:
    values = [None, *(0.1 + 0.0001 * at for at in range(count - 1))]
    gains = [0.01 * (at % 7 - 3) for at in range(count)]
    rules = [{"rule": rule, "gain": gains} for rule in ("mean-logit", "majority")]
    correlations = [{"measure": "rho", "rule": "majority", "pearson": 0.5}]
    one = {"name": "clean", "n": 100, "measures": {"rho": values, "q": [None] * count}, "rules": rules}
    pool = {"subsets": [[0, 1]] * count, "sets": [{**one, "correlations": correlations}]}
    (chart,) = made(pools, pools=[pool])
    (panel,) = chart.panels  # a measure that is nowhere defined has none
    assert panel.title == "rho, r = -, +0.50"
    found = drawn(panel, "majority")
    known = {(float(f"{x:.6g}"), float(f"{y:.6g}")) for x, y in zip(values, gains, strict=True) if x is not None}
    assert set(found) <= known
    if count <= MOST:
        assert set(found) == known
    else:
        assert len(found) <= count
        assert "drawn once" in chart.note
