"""Figures are there, not blank, and say the right numbers."""

from __future__ import annotations

from pathlib import Path
from xml.etree import ElementTree

import numpy as np
import pytest
from matplotlib.colors import to_hex
from PIL import Image

from robustkit.records.schema import Results
from robustkit.reports import _figures, write
from robustkit.reports._curves import curves
from robustkit.reports._heatmaps import colours, heatmaps
from robustkit.reports._mesh import ink
from robustkit.reports._style import PALETTE


def test_files(results: Results, tmp_path: Path) -> None:
    paths = write(results, tmp_path, ["figures"])
    assert sorted(p.name for p in paths if p.suffix == ".png") == [
        "distortion.png",
        "robust-accuracy.png",
        "transfer-pgd-10-8-255-accuracy-common-correct.png",
        "transfer-pgd-10-8-255-accuracy.png",
        "transfer-pgd-10-targeted-8-255-success-rate.png",
    ]
    for path in paths:
        if path.suffix == ".svg":
            assert len(list(ElementTree.parse(path).iter())) > 100
            continue
        with Image.open(path) as image:
            pixels = np.asarray(image.convert("L"), dtype=float)
        assert min(pixels.shape) > 500
        assert pixels.std() > 10
        assert (pixels > 250).mean() > 0.2  # white paper


def test_heatmap_says_the_numbers(results: Results) -> None:
    found = {name: (title, figure) for name, title, figure in heatmaps(results)}
    title, figure = found["transfer-pgd-10-8-255-accuracy"]
    assert title == "pgd-10 at 8/255: accuracy (low = transfers)"
    base, adp = figure.axes[:2]
    assert (base.get_title(), adp.get_title()) == ("baseline", "adp")  # the baseline is left
    matrix = next(t["matrix"] for t in results["transfer"] if t["ensemble"] == "adp" and t["metric"] == "accuracy")
    assert [text.get_text() for text in adp.texts] == [f"{100 * value:.1f}" for row in matrix for value in row]
    assert (adp.get_xlabel(), adp.get_ylabel()) == ("scored on", "crafted on")
    assert [label.get_text() for label in adp.get_xticklabels()] == ["member 0", "member 1", "member 2", "ensemble"]
    assert [text.get_text() for text in base.texts][:2] == ["2.0", "19.3"]
    assert base.collections[0].get_clim() == adp.collections[0].get_clim() == (0.0, 1.0)
    lines = [tuple(map(float, line.get_xdata())) for line in adp.lines]
    assert lines == [(0.0, 4.0), (3.0, 3.0)]  # the fused ensemble is set apart


def test_titles_say_the_direction(results: Results) -> None:
    titles = {title for _, title, _ in heatmaps(results)}
    assert "pgd-10, targeted at 8/255: success rate (high = transfers)" in titles
    assert any("every member classifies correctly" in title for title in titles)


def test_dark_means_transfer_in_both_metrics() -> None:
    low, high = (sum(colours("accuracy")(value)[:3]) for value in (0.0, 1.0))
    assert low < high
    low, high = (sum(colours("success-rate-common-correct")(value)[:3]) for value in (0.0, 1.0))
    assert low > high


def test_numbers_read_on_their_colours(results: Results) -> None:
    def luminance(colour: tuple[float, ...]) -> float:
        linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in colour[:3]]
        return float(np.dot([0.2126, 0.7152, 0.0722], linear))

    for metric in ("accuracy", "success-rate"):
        for value in np.linspace(0, 1, 101):
            shade = colours(metric)(value)
            dark, light = sorted([luminance(shade), 1.0 if ink(shade) == "white" else 0.0137])
            assert (light + 0.05) / (dark + 0.05) > 3.5, (metric, value, to_hex(shade))


def test_curves(results: Results) -> None:
    figure = curves(results)
    axes = figure.subfigs[0].axes[0]
    thick = [line for line in axes.lines if line.get_linewidth() > 2]
    assert [line.get_color() for line in thick] == [PALETTE[0], PALETTE[1]]  # baseline, adp
    assert list(thick[0].get_xdata()) == [0.0, 4 / 255, 8 / 255, 0.05]
    assert list(thick[1].get_ydata()) == pytest.approx([99.2, 51.3, 8.7, 0.75], abs=0.06)
    assert [tick.get_text() for tick in axes.get_xticklabels()] == ["0", "4/255", "8/255", "0.05"]
    assert len(axes.collections) == 10  # a band per curve
    texts = {t.get_text() for legend in figure.subfigs[1].axes[0].artists for t in legend.get_texts()}
    assert texts >= {"baseline", "adp", "pgd-100", "fgsm, targeted", "worst case", "suspect"}


def test_a_run_at_one_eps_is_not_extended_to_zero(results: Results) -> None:
    results["evaluations"] = [
        e for e in results["evaluations"] if e["params"].get("steps") != 100 or e["eps"] == 8 / 255
    ]
    axes = curves(results).subfigs[0].axes[0]
    assert [8 / 255] in [list(line.get_xdata()) for line in axes.lines]


@pytest.mark.parametrize("missing", ["evaluations", "worst_case", "transfer"])
def test_partial_results(results: Results, tmp_path: Path, missing: str) -> None:
    results["transfer"] = [t for t in results["transfer"] if t["metric"] == "accuracy"]  # one heatmap is enough
    results[missing] = []  # type: ignore[literal-required]
    names = {p.stem for p in write(results, tmp_path, ["figures"])}
    assert "robust-accuracy" in names
    assert any(name.startswith("transfer") for name in names) == (missing != "transfer")


def test_many_ensembles_and_norms(results: Results, tmp_path: Path) -> None:
    adp = results["ensembles"][0]
    for at in range(5):
        name = f"a-rather-long-ensemble-name-for-a-legend-{at}"
        results["ensembles"].append({**adp, "id": name})
        results["evaluations"] += [
            {**e, "ensemble": name, "norm": "l2", "eps": 0.5} for e in results["evaluations"][:1]
        ]
        results["transfer"].append({**results["transfer"][0], "ensemble": name})
    assert len(write(results, tmp_path, ["figures"])) == 10


def test_figures_are_drawn_for_files_alone(results: Results, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    results["transfer"] = results["transfer"][:1]
    drawn = []
    whole = _figures.curves
    monkeypatch.setattr(_figures, "curves", lambda given: drawn.append(1) or whole(given))
    write(results, tmp_path / "both", ["html", "figures"])
    assert len(drawn) == 1  # the page draws charts of its own
    files = sorted((tmp_path / "both" / "figures").glob("*.svg"))
    assert len(files) == 3
    # What was drawn before is not taken for what has changed since, and the page changes no figure's pixels.
    results["evaluations"] = []
    write(results, tmp_path / "alone", ["figures"])
    assert len(drawn) == 2
    both, alone = (tmp_path / folder / "figures" for folder in ("both", "alone"))
    name = "transfer-pgd-10-8-255-accuracy.png"
    assert (both / name).read_bytes() == (alone / name).read_bytes()
    assert (both / "robust-accuracy.png").read_bytes() != (alone / "robust-accuracy.png").read_bytes()
