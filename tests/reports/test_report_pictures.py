"""Images of attacks in the page: their pixels are those of the store, what is said of them is what was answered."""

from __future__ import annotations

import html
import io
import re
from base64 import b64decode
from pathlib import Path
from typing import Any

import numpy as np
import PIL.Image
import pytest

import robustkit
from robustkit import api
from robustkit.base.errors import UserError
from robustkit.pipeline.stored import read_study
from robustkit.records import originals
from robustkit.records.cells import Run
from robustkit.records.store import Store
from robustkit.reports import _format as f
from robustkit.reports._page.pixels import as_float, factor_of, perturbation_png, png
from robustkit.reports._sample_arrays import SampleTable, read_arrays
from robustkit.reports._samples import quoted

MODEL: dict[str, Any] = {
    "defense": "baseline", "arch": f"{Path(__file__).parents[1] / 'networks.py'}:perceptron", "members": 2, "epochs": 4,
    "speed": "off", "trust": "off", "reference": False, "suites": ("attacks",), "formats": ("html",),
}  # fmt: skip
MOST = 1_500_000  # bytes of a page with images and samples


@pytest.fixture(scope="module")
def evaluated(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("pictures") / "out"
    robustkit.evaluate(
        **MODEL, n=60, attacks="fgsm,pgd", eps=(0.02, 0.05, 0.1), out=out, settings={"pgd.steps": 3},
    )  # fmt: skip
    return out


@pytest.fixture(scope="module")
def table(evaluated: Path) -> SampleTable:
    found = read_arrays(robustkit.load_results(evaluated), evaluated)
    assert found is not None
    return found


def strongest(folder: Path) -> Run:
    """Return the stored run that the page shows images of."""
    results, store = robustkit.load_results(folder), Store(folder / "runs")
    study = read_study(store)
    at = quoted(results, study.ensembles[0].id)
    assert at is not None
    run = store.load(list(study.white_box(study.ensembles[0]))[at], examples=True)
    assert run is not None
    return run


def pixels(png_file: bytes) -> np.ndarray:
    found = np.asarray(PIL.Image.open(io.BytesIO(png_file)))
    return found.transpose(2, 0, 1) if found.ndim == 3 else found[None]


def test_pixels_are_those_of_the_store(evaluated: Path, table: SampleTable):
    run, study = strongest(evaluated), read_study(Store(evaluated / "runs"))
    before = originals.load(Store(evaluated / "runs"), study.dataset.sha256, study.version)
    rows = {int(id): row for row, id in enumerate(run.samples.ids)}
    examples = [p for p in table.pictures if p.about["kind"] == "example"]
    assert len(examples) == 8
    for picture in examples:
        row = rows[picture.about["id"]]
        original, attacked = as_float(before[picture.about["id"]]), run.samples.examples[row]
        assert np.abs(pixels(picture.original) / 255 - original).max() <= 0.501 / 255
        assert np.abs(pixels(picture.result) / 255 - attacked).max() <= 0.501 / 255
        change = (pixels(picture.perturbation) - 127.5) / 255 / picture.about["factor"]
        assert np.abs(change - (attacked - original)).max() <= 0.501 / 255 / picture.about["factor"]
        assert np.abs(attacked - original).max() > 0.01


def test_what_is_said_is_what_was_answered(evaluated: Path, table: SampleTable):
    run, outcomes = strongest(evaluated), table.outcomes[0]
    at = quoted(robustkit.load_results(evaluated), outcomes.ensemble)
    assert at is not None
    counts = {"broken": 0, "withstood": 0}
    for picture in (p for p in table.pictures if p.about["kind"] == "example"):
        row = run.samples.ids.tolist().index(picture.about["id"])
        answers = [run.samples.fused[row], *run.samples.member_logits[:, row]]
        assert [label for label, _ in picture.about["attacked"]] == [int(one.argmax()) for one in answers]
        shares = [float(np.exp(one.max()) / np.exp(one).sum()) for one in answers]
        assert [share for _, share in picture.about["attacked"]] == pytest.approx(shares, abs=1e-5)
        outcome = "withstood" if outcomes.attacked[at][row] > 0 else "broken"
        assert picture.about["outcome"] == outcome
        assert outcomes.clean[row] > 0
        assert picture.about["changed"] == pytest.approx(float(run.samples.linf[row]))
        counts[outcome] += 1
    assert counts == {"broken": 4, "withstood": 4}


def test_the_page_shows_every_picture_with_its_numbers(evaluated: Path, table: SampleTable):
    text = (evaluated / "report.html").read_text()
    inside = {b64decode(found) for found in re.findall(r"data:image/png;base64,([A-Za-z0-9+/=]+)", text)}
    for picture in table.pictures:
        shown = {picture.perturbation, picture.result}
        assert (shown if picture.about["kind"] == "ladder" else {*shown, picture.original}) <= inside
    figures = dict(re.findall(r'<figure data-sample="0-(\d+)">(.*?)</figure>', text, re.DOTALL))
    for picture in (p for p in table.pictures if p.about["kind"] == "example"):
        about, figure = picture.about, html.unescape(figures[str(picture.about["id"])])
        assert f"Sample {about['id']}, label {about['label']}: {about['outcome']}" in figure
        said = [*about["clean"], *about["attacked"]]
        cells = re.findall(r"<td[^>]*>(\w+)<br><span>([\d.]+) %</span>", figure)
        assert cells == [(str(int(label)), f.percent(share)) for label, share in said]
        assert f"{about['norm']} {about['changed']:.4g} after {about['attack']} at eps" in figure


def test_a_ladder_is_one_image_at_every_eps(evaluated: Path, table: SampleTable):
    ladder = [p for p in table.pictures if p.about["kind"] == "ladder"]
    assert [p.about["eps"] for p in ladder] == [0.02, 0.05, 0.1]
    assert len({(p.about["id"], p.about["attack"], p.about["factor"], p.original) for p in ladder}) == 1


def test_samples_that_are_asked_for_are_put_in(evaluated: Path, table: SampleTable, tmp_path: Path):
    shown, one = {p.about["id"] for p in table.pictures}, table.outcomes[0]
    wanted = next(int(id) for id, right in zip(one.ids, one.clean, strict=True) if right and id not in shown)
    wrong = int(one.ids[one.clean == 0][0])
    api.report(evaluated, out=tmp_path / "again", formats=("html",), examples=[wanted, wrong])
    asked = [p for p in table_of(tmp_path / "again").pictures if p.about["kind"] == "asked"]
    assert [p.about["id"] for p in asked] == [wanted]
    text = (tmp_path / "again" / "report.html").read_text()
    assert f'data-sample="0-{wanted}"' in text
    assert f"No image of {wrong} can be shown: a sample that is wrong without an attack is not attacked" in text
    with pytest.raises(UserError, match="--examples 99999 is no sample of this evaluation"):
        api.report(evaluated, out=tmp_path / "none", formats=("html",), examples="99999")


def table_of(folder: Path) -> SampleTable:
    found = read_arrays(robustkit.load_results(folder), folder)
    assert found is not None
    return found


def test_samples_of_other_results_are_not_shown(evaluated: Path):
    results = robustkit.load_results(evaluated)
    results["samples"]["sha256"] = "0" * 64
    assert read_arrays(results, evaluated) is None


def test_without_images_a_sentence_says_why(tmp_path: Path):
    robustkit.evaluate(**MODEL, n=8, attacks="fgsm", eps=0.1, out=tmp_path / "out", keep_examples=False)
    text = (tmp_path / "out" / "report.html").read_text()
    assert "was kept (--no-keep-examples)" in text
    assert "data:image/png" not in text


def test_a_page_is_small(evaluated: Path):
    assert (evaluated / "report.html").stat().st_size <= MOST / 3  # of one ensemble; the README's run has two


def test_factors_and_levels():
    small, large = np.full((1, 2, 2), 0.1, np.float32), np.full((3, 2, 2), -0.7, np.float32)
    assert factor_of([small]) == 5
    assert factor_of([small, large]) == 0.5
    assert factor_of([np.zeros((1, 2, 2), np.float32)]) == 1
    assert pixels(perturbation_png(small, 5)).tolist() == [[[255, 255], [255, 255]]]
    assert pixels(perturbation_png(0 * small, 5)).tolist() == [[[128, 128], [128, 128]]]
    assert pixels(png(np.array([[[0.0, 1.0, 2.0, 0.5]]]))).tolist() == [[[0, 255, 255, 128]]]
    assert pixels(png(np.zeros((5, 1, 1), np.float32))).shape == (1, 1, 1)  # of other channels the first, in grey
