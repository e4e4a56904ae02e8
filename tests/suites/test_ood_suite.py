"""Out-of-distribution sets: read, adapted, freed of test images, scored, resumed, reported."""

from __future__ import annotations

import json
import struct
from pathlib import Path
from typing import Any

import numpy as np
import PIL.Image
import pytest
import torch
from in_process import invoke
from shared_data import SHARED
from sklearn.metrics import average_precision_score, roc_auc_score
from suite_models import asked, carried_out, linear

from robustkit import data, ood, suites
from robustkit.base.errors import RunError, UserError
from robustkit.data import Dataset, Split
from robustkit.ensembles.ensemble import Ensemble
from robustkit.evaluation import pieces
from robustkit.metrics.scores import SCORES
from robustkit.ood import _sets
from robustkit.ood._pixels import adapt, adaptation
from robustkit.ood._read import read
from robustkit.ood._sets import build
from robustkit.pipeline.results import build as results_of
from robustkit.reports import _suites
from robustkit.reports._tables import find, tables


@pytest.fixture(scope="module")
def fitted(digits: Dataset) -> Ensemble:
    return linear(digits)


@pytest.fixture
def split(digits: Dataset) -> Split:
    return digits.split("test").take(60)


@pytest.fixture
def arrays(tmp_path: Path) -> str:
    """Thirty random images without labels."""
    np.savez(tmp_path / "x.npz", x=np.random.default_rng(0).integers(0, 256, (30, 12, 16), np.uint8))
    return f"npz:{tmp_path / 'x.npz'}"


# --- names


def test_names_and_distances():
    assert ood.chosen("near:mnist, far:npz:a.npz,digits,noise") == (
        ("near", "mnist"), ("far", "npz:a.npz"), ("unknown", "digits"), ("far", "noise"),
    )  # fmt: skip
    assert ood.chosen(None) is None
    assert ood.shipped() == (("near", "swapped-quarters"), ("far", "noise"), ("far", "photo-tiles"))
    assert ood.chosen("near:noise") == (("near", "noise"),)  # the user knows better


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("near:minst", "unknown out-of-distribution set 'minst': did you mean 'mnist'?"),
        ("near:photo-tile", "did you mean 'photo-tiles'?"),
        ("far:npz", "dataset 'npz' has no path; write npz:PATH."),
        ("near:mnist,far:mnist", "out-of-distribution set 'mnist' is named twice"),
        (",", "the list of out-of-distribution sets is empty"),
    ],
)
def test_wrong_names(text: str, message: str):
    with pytest.raises(UserError) as error:
        ood.chosen(text)
    assert message in str(error.value)


def test_the_command_refuses_before_it_trains(tmp_path: Path):
    for named, message in (
        ("near:minst", "unknown out-of-distribution set 'minst'"),
        (f"npz:{tmp_path / 'no.npz'}", "does not exist"),
        (f"far:imagefolder:{tmp_path / 'no'}", "does not exist; give a folder of images"),
        ("near:fashionmnist", "FashionMNIST is missing or damaged"),
    ):
        code, _, error = invoke("evaluate", "--ood", named, "--data-dir", tmp_path, "--suites", "ood")
        assert code == 2
        assert message in error


def test_naming_a_set_asks_for_the_suite():
    from robustkit.pipeline import request
    from robustkit.study.config import EvaluateConfig

    assert request.check(EvaluateConfig(attacks="pgd", ood="noise")).suites == ("attacks", "transfer", "ood")
    assert request.check(EvaluateConfig(attacks="pgd")).suites == ("attacks", "transfer")


# --- pixels


def test_grey_and_colour():
    grey = torch.tensor([[[[0.25, 0.5], [0.75, 1.0]]]])
    assert (adapt(grey, (3, 2, 2)) == grey.repeat(1, 3, 1, 1)).all()
    red = torch.zeros(1, 3, 2, 2)
    red[:, 0] = 1.0
    assert adapt(red, (1, 2, 2)).flatten().tolist() == pytest.approx([0.299] * 4)
    levels = torch.arange(256, dtype=torch.uint8).reshape(1, 1, 16, 16)
    there_and_back = adapt(adapt(levels, (3, 16, 16)), (1, 16, 16))
    assert ((there_and_back * 255).round() == levels).all()
    with pytest.raises(UserError, match="images of 4 channels cannot be brought to 3"):
        adapt(torch.zeros(1, 4, 2, 2), (3, 2, 2))


def test_sizes():
    """4x8 to 2x2: halved to 2x4, where a triangle of width 4 weighs 3:3:1:1 at a border, then the middle is cut out."""
    ramp = torch.arange(8.0).expand(4, 8)[None, None] / 8
    out = adapt(ramp, (1, 2, 2))
    pillow = PIL.Image.fromarray(ramp[0, 0].numpy()).resize((4, 2), PIL.Image.Resampling.BILINEAR)
    assert torch.allclose(out[0, 0], torch.from_numpy(np.array(pillow))[:, 1:3], atol=1e-6)
    assert out[0, 0, 0].tolist() == pytest.approx([2.5 / 8, 4.5 / 8])
    assert adapt(torch.rand(2, 1, 5, 9), (1, 28, 20)).shape == (2, 1, 28, 20)
    assert adaptation((3, 28, 28), (1, 8, 8)) == (
        "RGB to grey (BT.601 luma); resized from 28x28 to 8x8 (bilinear, antialiased)"
    )
    assert adaptation((1, 4, 8), (3, 2, 2)) == (
        "grey repeated to RGB; resized from 4x8 to 2x2 (bilinear, antialiased, centre cut out)"
    )
    assert adaptation((1, 8, 8), (1, 8, 8)) == "none"


# --- sets


def test_archives_and_folders_need_no_labels(split: Split, arrays: str, tmp_path: Path):
    made = build(arrays, "far", split, data.load)
    assert (len(made.split), made.split.shape, made.what) == (30, (1, 8, 8), "x of the file")
    folder = tmp_path / "flat"
    (folder / "deeper").mkdir(parents=True)
    PIL.Image.new("RGB", (20, 10), (255, 0, 0)).save(folder / "red.png")
    PIL.Image.new("L", (7, 9), 128).save(folder / "deeper" / "grey.png")
    (folder / "note.txt").write_text("no image")
    made = build(f"imagefolder:{folder}", "far", split, data.load)
    assert made.split.tensor().mean((1, 2, 3)).tolist() == pytest.approx([128 / 255, 0.299], abs=1e-6)
    assert "each image to grey (BT.601 luma) and 8x8" in made.adaptation
    (tmp_path / "empty").mkdir()
    with pytest.raises(UserError, match="has no images; add some"):
        build(f"imagefolder:{tmp_path / 'empty'}", "far", split, data.load)
    np.savez(tmp_path / "y.npz", y=np.zeros(3))
    with pytest.raises(UserError, match="has neither x nor x_test"):
        build(f"npz:{tmp_path / 'y.npz'}", "far", split, data.load)


def test_of_a_division_the_test_images_count(split: Split, tmp_path: Path):
    x = np.random.default_rng(0).integers(0, 256, (9, 8, 8), np.uint8)
    np.savez(tmp_path / "d.npz", x_train=x[:5], x_test=x[5:])
    made = build(f"npz:{tmp_path / 'd.npz'}", "far", split, data.load)
    assert (made.split.x[:, 0] * 255).round().to(torch.uint8).numpy().tolist() == x[5:].tolist()
    for part in ("train", "test"):
        folder = tmp_path / "folder" / part
        folder.mkdir(parents=True)
        PIL.Image.new("L", (8, 8), 200).save(folder / f"{part}.png")
    assert build(f"imagefolder:{tmp_path / 'folder'}", "far", split, data.load).found == 1


def test_a_large_set_is_thinned_out_by_a_fixed_choice(split: Split, arrays: str, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(_sets, "MOST", 7)
    made = build(arrays, "far", split, data.load)
    whole = read(arrays, split.shape, data.load).pixels[torch.arange(30)]
    rows = np.sort(np.random.default_rng(0).permutation(30)[:7])
    assert (made.found, len(made.split)) == (30, 7)
    assert torch.equal(made.split.tensor(), whole[rows])
    assert build(arrays, "far", split.take(3), data.load).split.shape == (1, 8, 8)
    assert len(build(arrays, "far", split.take(3), data.load).split) == 3
    monkeypatch.setattr(_sets, "CACHE_BYTES", 0)  # not kept in memory, the same images
    assert build(arrays, "far", split, data.load).split.sha256() == made.split.sha256()


def test_images_of_the_test_set_are_counted_and_left_out(split: Split, digits: Dataset, tmp_path: Path):
    others = digits.split("train").take(5).tensor()
    mixed = torch.cat([others, split.tensor()[:3], split.tensor()[10:11] + 0.0001]).clamp(0, 1)
    np.savez(tmp_path / "m.npz", x=mixed.numpy())
    made = build(f"npz:{tmp_path / 'm.npz'}", "near", split, data.load)
    assert (made.duplicates, len(made.split)) == (4, 5)  # the last is the same in every 8-bit level
    assert torch.equal(made.split.tensor(), others)
    with pytest.raises(UserError, match="all images of the out-of-distribution set 'digits' are images that are eval"):
        build("digits", "near", digits.split("test"), data.load)


def test_copies_are_found_across_grey_and_rgb(split: Split, tmp_path: Path):
    grey = (split.tensor()[:4] * 255).round().to(torch.uint8)
    np.savez(tmp_path / "rgb.npz", x=grey.repeat(1, 3, 1, 1).permute(0, 2, 3, 1).numpy())
    with pytest.raises(UserError, match="are images that are evaluated on"):
        build(f"npz:{tmp_path / 'rgb.npz'}", "near", split, data.load)


@pytest.mark.parametrize("entry", list(ood.ood_set), ids=lambda e: e.name)
@pytest.mark.parametrize("shape", [(1, 8, 8), (3, 32, 32), (1, 28, 20)])
def test_every_shipped_set_fits_and_is_the_same_each_time(entry: Any, shape: tuple[int, int, int]):
    x = torch.rand(20, *shape, generator=torch.Generator().manual_seed(0))
    own = Split(x, torch.zeros(20, dtype=torch.int64))
    one, other = (build(entry.name, entry.facts["distance"], own, data.load) for _ in range(2))
    assert len(one.split) == 20
    assert one.split.tensor().shape[1:] == shape
    assert one.split.sha256() == other.split.sha256()
    assert 0 <= float(one.split.tensor().min()) <= float(one.split.tensor().max()) <= 1
    assert one.what.endswith(".")


def test_the_shipped_sets_are_what_they_say(split: Split):
    photos = ood.ood_set.get("photo-tiles")(split)
    from sklearn.datasets import load_sample_images

    flower = load_sample_images().images[1]
    assert photos.shape == (2 * 13 * 20, 3, 32, 32)
    assert (photos[260 + 21].permute(1, 2, 0).numpy() == flower[32:64, 32:64]).all()
    swapped = build("swapped-quarters", "near", split, data.load).split.tensor()
    x = split.tensor()
    assert torch.equal(swapped[:, :, :4, :4], x[:, :, 4:, 4:])
    assert torch.equal(swapped[:, :, 4:, :4], x[:, :, :4, 4:])
    noise = build("noise", "far", split, data.load).split.tensor()
    assert float(noise.mean()) == pytest.approx(0.5, abs=0.02)
    assert float(noise.var()) == pytest.approx(1 / 12, abs=0.005)


def write_idx(folder: Path, x: np.ndarray) -> None:
    folder.mkdir(parents=True)
    for name, array in (("images-idx3", x), ("labels-idx1", np.zeros(len(x), np.uint8))):
        head = struct.pack(f">4B{array.ndim}I", 0, 0, 8, array.ndim, *array.shape)
        (folder / f"t10k-{name}-ubyte").write_bytes(head + array.tobytes())


def test_idx_files_and_the_user_s_image_size(split: Split, tmp_path: Path):
    """A set is loaded with the user's data folder, and without an image size that it cannot take."""
    from functools import partial

    from robustkit.study.evaluation_data import _load

    write_idx(tmp_path / "notMNIST" / "raw", np.full((4, 28, 28), 100, np.uint8))
    made = build("notmnist", "near", split, partial(_load, tmp_path, False, 8))
    assert made.split.tensor().flatten().tolist() == pytest.approx([100 / 255] * 4 * 64)
    assert (made.what, made.adaptation) == (
        "notMNIST, all samples", "resized from 28x28 to 8x8 (bilinear, antialiased)",
    )  # fmt: skip


@pytest.mark.skipif(not SHARED.is_dir(), reason="MNIST and notMNIST are not at hand")
def test_mnist_against_notmnist():
    from functools import partial

    split = data.load("mnist", data_dir=SHARED / "mnist").split("test").take(200)
    made = build(f"idx:{SHARED / 'notmnist'}", "near", split, partial(data.load, data_dir=SHARED / "mnist"))
    assert (len(made.split), made.found, made.duplicates, made.adaptation) == (200, 10_000, 0, "none")


# --- the suite


def test_numbers_are_those_of_asking_the_model(fitted: Ensemble, digits: Dataset, split: Split, tmp_path: Path):
    facts = asked("ood", digits, split)
    study, store, warnings = carried_out("ood", facts, digits, split, fitted, tmp_path)
    assert warnings == []
    [result] = suites.get("ood").results(study, store)
    assert (result["n"], [s["name"] for s in result["sets"]]) == (60, ["swapped-quarters", "noise", "photo-tiles"])
    with torch.no_grad():
        noise = build("noise", "far", split, data.load).split.tensor()
        own, others = (fitted.member_logits(x) for x in (split.tensor(), noise))
    found = {s["score"]: s for s in result["sets"][1]["scores"]}
    assert list(found) == list(SCORES)
    truth = np.r_[np.ones(60), np.zeros(60)]
    for name, score in SCORES.items():
        values = np.concatenate([score(z.numpy(), fitted.fuse(z).numpy()) for z in (own, others)])
        assert found[name]["auroc"] == pytest.approx(roc_auc_score(truth, values), abs=1e-6)
        assert found[name]["aupr"] == pytest.approx(average_precision_score(truth, values), abs=1e-6)
        assert found[name]["ci95"][0] <= found[name]["auroc"] <= found[name]["ci95"][1]
    means = {(m["distance"], m["score"]): m for m in result["means"]}
    assert means["near", "msp"]["auroc"] == result["sets"][0]["scores"][1]["auroc"]
    far = [s["scores"][1]["auroc"] for s in result["sets"][1:]]
    assert (means["far", "msp"]["auroc"], means["far", "msp"]["sets"]) == (pytest.approx(np.mean(far)), 2)
    json.dumps(result, allow_nan=False)


def test_a_single_member_has_the_scores_that_work(digits: Dataset, split: Split, tmp_path: Path):
    facts = asked("ood", digits, split, ood="noise")
    study, store, _ = carried_out("ood", facts, digits, split, linear(digits, 1), tmp_path)
    [result] = suites.get("ood").results(study, store)
    names = [s["score"] for s in result["sets"][0]["scores"]]
    assert names == ["msp", "mal", "min-max-logit", "energy", "entropy"]


def test_what_is_stored_is_not_scored_again(
    fitted: Ensemble, digits: Dataset, split: Split, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    facts = asked("ood", digits, split)
    carried_out("ood", facts, digits, split, fitted, tmp_path)
    scored, real = [], pieces.attack
    monkeypatch.setattr(
        pieces, "attack", lambda worker, cell, **more: (scored.append(cell.data), real(worker, cell, **more))[1]
    )
    carried_out("ood", facts, digits, split, fitted, tmp_path)
    assert scored == []
    damaged = facts["sets"][1]["sha256"]
    [cell] = [c for c in carried_out("ood", facts, digits, split, fitted, tmp_path)[1].cells() if c.data == damaged]
    (tmp_path / f"{cell.key}.npz").write_bytes(b"damaged")
    carried_out("ood", facts, digits, split, fitted, tmp_path)
    assert scored == [damaged]


def test_duplicates_are_warned_of_and_changed_files_refused(
    fitted: Ensemble, digits: Dataset, split: Split, tmp_path: Path
):
    file = tmp_path / "m.npz"
    np.savez(file, x=torch.cat([digits.split("train").take(5).tensor(), split.tensor()[:3]]).numpy())
    facts = asked("ood", digits, split, ood=f"near:npz:{file}")
    _, _, warnings = carried_out("ood", facts, digits, split, fitted, tmp_path / "runs")
    assert warnings == [f"ood set 'npz:{file}': 3 of 8 are evaluated images; left out"]
    np.savez(file, x=digits.split("train").take(6).tensor().numpy())
    with pytest.raises(RunError, match="have changed"):
        carried_out("ood", facts, digits, split, fitted, tmp_path / "other")


class Broken(torch.nn.Module):
    """Not finite on bright images."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        z = torch.eye(10)[(x.flatten(1).sum(1) * 10).long() % 10]
        return torch.where(x.flatten(1).mean(1, keepdim=True) > 0.9, torch.nan, z)


def test_outputs_that_are_not_finite_are_left_out(digits: Dataset, split: Split, tmp_path: Path):
    np.savez(tmp_path / "w.npz", x=np.concatenate([np.full((2, 8, 8), 255), np.full((3, 8, 8), 9)]).astype(np.uint8))
    np.savez(tmp_path / "v.npz", x=np.full((2, 8, 8), 255, np.uint8))
    facts = asked("ood", digits, split, ood=f"far:npz:{tmp_path / 'w.npz'},far:npz:{tmp_path / 'v.npz'}")
    ensemble = Ensemble([Broken(), Broken()], fusion="mean-prob").eval()
    study, store, warnings = carried_out("ood", facts, digits, split, ensemble, tmp_path / "runs")
    assert "output on 2 images of" in warnings[0]
    [result] = suites.get("ood").results(study, store)
    assert [s["failed"] for s in result["sets"]] == [2, 2]
    assert result["sets"][0]["scores"][0]["auroc"] is not None
    assert result["sets"][1]["scores"][0]["auroc"] is None
    assert result["means"][0]["auroc"] is None
    assert find(tables(results_of(study, store)), "ood") is not None


def test_reports(fitted: Ensemble, digits: Dataset, split: Split, arrays: str, tmp_path: Path):
    facts = asked("ood", digits, split, ood=f"near:swapped-quarters,{arrays}")
    study, store, _ = carried_out("ood", facts, digits, split, fitted, tmp_path / "runs")
    results = results_of(study, store)
    every = tables(results)
    table = find(every, "ood")
    assert table.columns == ["ensemble", "score", "swapped-quarters (near)", "npz:x.npz", "mean near"]
    msp = results["ood"][0]["sets"][0]["scores"][1]
    low, high = msp["ci95"]
    assert str(table.rows[1][2]) == f"{100 * msp['auroc']:.1f} [{100 * low:.1f}, {100 * high:.1f}]"
    assert len(table.records) == 2 * len(SCORES)
    assert len(find(every, "ood-measures").rows) == 2 * len(SCORES)
    assert str(find(every, "ood-sets").rows[1][-1]) == (
        "resized from 12x16 to 8x8 (bilinear, antialiased, centre cut out)"
    )
    drawn = list(_suites.drawings(results))
    assert [d.name for d in drawn] == ["ood", "ood-roc-adp"]
    assert all(d.png().startswith(b"\x89PNG") for d in drawn)
