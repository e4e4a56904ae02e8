"""The diversity suite: run, stored, resumed and reported; its numbers against captum, NumPy and identical members."""

from __future__ import annotations

import copy
import dataclasses
import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import PIL.Image
import pytest
import torch
from suite_models import data_of, job_of
from torch import Tensor, nn

import robustkit
from robustkit import api, data, models
from robustkit.base.errors import RunError
from robustkit.data import Split
from robustkit.ensembles.checkpoint import save_ensemble
from robustkit.ensembles.ensemble import Ensemble, Member
from robustkit.evaluation.cell import RunOptions, run_cell
from robustkit.metrics.pairwise import PAIRWISE, of_all_pairs, pairs
from robustkit.pipeline.results import build
from robustkit.records.cells import DatasetRecord, EnsembleRecord
from robustkit.records.schema_members import DiversityResult, LayerSimilarity
from robustkit.records.store import Store
from robustkit.reports import _diversity_maps, _suite_diversity, _suites
from robustkit.reports._figures import drawings
from robustkit.reports._tables import find, tables
from robustkit.study.plan import Study
from robustkit.suites import _layers, diversity
from robustkit.suites._layers import layers_of

CPU = RunOptions(torch.device("cpu"), workers=1)
ASKED = {
    "attributions": {"samples": 20, "steps": 4, "shown": 3},
    "layers": {"samples": 30, "batch": 16, "most": 20},
}


PARTS = (".conv1", ".conv2", "")  # of a residual block, then the block


def member_of(seed: int, arch: str = "small-resnet") -> Member:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return Member(models.build(arch, 1, 10), (0.3,), (0.4,)).eval()


def ensemble_of(*members: nn.Module) -> Ensemble:
    return Ensemble(members, fusion="mean-prob").eval()


@pytest.fixture(scope="module")
def three() -> Ensemble:
    """Three members that were never trained: nearly all answers are wrong, so that every measure is defined."""
    return ensemble_of(*(member_of(seed) for seed in range(3)))


@pytest.fixture
def split(digits: data.Dataset) -> Split:
    return digits.split("test").take(40)


def study_of(split: Split, members: int, ids: tuple[str, ...] = ("adp",), asked: Any = None) -> Study:
    return Study(
        ensembles=tuple(
            EnsembleRecord(i, f"key-{i}", i, {}, ("small-resnet",), members, "mean-prob", "ab" * 32) for i in ids
        ),
        dataset=DatasetRecord("digits", "test", len(split), tuple("0123456789"), split.sha256(), split.shape),
        attacks=(), eps=(0.1,), norm="linf", transfer_eps=0.1, suites=("diversity",), version="1",
        suite_requests={"diversity": asked or ASKED},
    )  # fmt: skip


def carried_out(
    study: Study, ensemble: Ensemble, split: Split, folder: Path, digits: data.Dataset, run_options: RunOptions = CPU
) -> Store:
    store, ensembles = Store(folder), {record.key: ensemble for record in study.ensembles}
    for record in study.ensembles:
        store.save(run_cell(study.clean(record), ensemble, split, None, CPU))
    job = job_of(study, "diversity", ensembles, data_of(digits, split), store, run_options)
    assert diversity.Diversity.run(job) == []
    return store


def result_of(ensemble: Ensemble, split: Split, folder: Path, digits: data.Dataset, **changes: Any) -> DiversityResult:
    study = study_of(split, len(ensemble), asked=changes.pop("asked", None))
    store = carried_out(study, ensemble, split, folder, digits, dataclasses.replace(CPU, **changes))
    [result] = diversity.Diversity.results(study, store)
    json.dumps(result, allow_nan=False)
    return result


def test_answers_are_those_of_the_model(three: Ensemble, split: Split, digits: data.Dataset, tmp_path: Path):
    found = result_of(three, split, tmp_path, digits)
    with torch.no_grad():
        logits = three.member_logits(split.tensor()).double().numpy()
        fused = three(split.tensor()).argmax(1)
    labels, y = logits.argmax(2), split.y.numpy()
    assert [m["name"] for m in found["pairwise"]] == list(PAIRWISE)
    for measure in found["pairwise"]:
        matrix = PAIRWISE[measure["name"]](labels, y)
        assert measure["mean"] == pytest.approx(of_all_pairs(measure["name"], labels, y))
        infinite = [[i, j] for i, j in pairs(3) if math.isinf(matrix[i, j])]
        assert measure["infinite"] == infinite
        assert measure["undefined"] == sum(math.isnan(matrix[i, j]) for i, j in pairs(3))
        matrix = np.where(np.isinf(matrix), np.nan, matrix)  # JSON has no infinity
        assert np.array(measure["matrix"], float) == pytest.approx(matrix, nan_ok=True)
    right = fused.numpy() == y
    assert (found["right"], found["wrong"], found["samples"]) == (right.sum(), (~right).sum(), 40)
    assert found["accuracy"] == pytest.approx(right.mean())
    votes = [len(set(column)) for column in labels.T]  # 1, 2 or 3 different answers of three members
    equitability = np.array([0, (np.log(3) - 2 / 3 * np.log(2)) / np.log(3), 1])[np.array(votes) - 1]
    assert found["equitability_wrong"] == pytest.approx(equitability[~right].mean())
    assert found["equitability_right"] == pytest.approx(equitability[right].mean())
    assert 0 < found["ed"] < 1
    assert 0 < found["mutual_information"] < np.log(3)


def test_attributions_are_those_of_captum(three: Ensemble, split: Split, digits: data.Dataset, tmp_path: Path):
    attr = pytest.importorskip("captum.attr")
    found = result_of(three, split, tmp_path, digits)["attributions"]
    x = split.tensor()[:20]
    y = three(x).argmax(1)  # of the predicted class, not the true one
    assert not torch.equal(y, split.y[:20])
    lines = [attr.Saliency(m).attribute(x.clone().requires_grad_(), y, abs=False) for m in three.members]
    whole = [attr.IntegratedGradients(m).attribute(x, target=y, n_steps=4) for m in three.members]
    cams = [attr.LayerGradCam(m, m.network.layer2).attribute(x, y, relu_attributions=True) for m in three.members]
    stacked = torch.stack(lines).abs()
    assert found["saliency_variance"] == pytest.approx(float(variance(stacked)), rel=1e-4)
    assert found["integrated_variance"] == pytest.approx(float(variance(torch.stack(whole))), rel=1e-4)
    unit = stacked / stacked.flatten(2).norm(dim=2)[:, :, None, None, None]
    assert found["saliency_variance_normalised"] == pytest.approx(float(variance(unit)), rel=1e-4)
    for distribution, maps in zip(found["cosines"], (cams, lines), strict=True):
        cosines = [torch.cosine_similarity(maps[i].flatten(1), maps[j].flatten(1)) for i, j in ((0, 1), (0, 2), (1, 2))]
        there = [c[(maps[i].flatten(1).norm(dim=1) > 0) & (maps[j].flatten(1).norm(dim=1) > 0)]
                 for c, (i, j) in zip(cosines, ((0, 1), (0, 2), (1, 2)), strict=True)]  # fmt: skip
        every = torch.cat(there)
        assert distribution["mean"] == pytest.approx(float(every.detach().mean()), rel=1e-4)
        assert distribution["matrix"][2][0] == pytest.approx(float(there[1].detach().mean()), rel=1e-4)
        assert distribution["undefined"] == pytest.approx(1 - len(every) / 60)
        assert sum(distribution["counts"]) == len(every)
        bins = np.array(distribution["edges"])
        assert distribution["counts"] == np.histogram(every.detach().double(), bins)[0].tolist()


def variance(maps: Tensor) -> Tensor:
    """Design-diversity paper, eq. 7, mean over samples, of maps (M, N, C, H, W)."""
    return maps.detach().var(0, correction=0).sum((1, 2, 3)).mean()


def test_layers_against_numpy_on_features_taken_by_hand(
    three: Ensemble, split: Split, digits: data.Dataset, tmp_path: Path
):
    found = result_of(three, split, tmp_path, digits)
    assert [pair["members"] for pair in found["layers"]] == [[0, 1], [0, 2], [1, 2]]
    pair = found["layers"][1]
    assert pair["layers"][0] == pair["layers"][1]
    assert pair["layers"][0][0] == "network.conv1"
    assert pair["layers"][0][-1] == "network.linear"
    x, sums = split.tensor()[:30], np.zeros((2, 2, 2))
    with torch.no_grad():
        for part in (x[:15], x[15:]):  # 30 in batches of at most 16
            first = [m.network.conv1(m.normalize(part)).flatten(1).double().numpy() for m in three.members]
            last = [m(part).double().numpy() for m in three.members]
            for at, features in enumerate((first, last)):
                chosen = (features[0], features[2])
                sums[at] += [[estimate(a, b) for b in chosen] for a in chosen]
    cka = sums[:, 0, 1] / np.sqrt(sums[:, 0, 0] * sums[:, 1, 1])
    assert pair["matrix"][0][0] == pytest.approx(cka[0], rel=1e-5)
    assert pair["last"] == pair["matrix"][-1][-1] == pytest.approx(cka[1], rel=1e-5)
    assert pair["same_layer"] == pytest.approx(np.mean(np.diag(pair["matrix"])))


def estimate(a: np.ndarray, b: np.ndarray) -> float:
    """Unbiased HSIC as Song et al. 2012 print it."""
    n, one = len(a), np.ones(len(a))
    k, other = a @ a.T * (1 - np.eye(n)), b @ b.T * (1 - np.eye(n))
    middle = (one @ k @ one) * (one @ other @ one) / ((n - 1) * (n - 2))
    return float((np.trace(k @ other) + middle - 2 / (n - 2) * one @ k @ other @ one) / (n * (n - 3)))


def test_equal_members_are_not_diverse_at_all(split: Split, digits: data.Dataset, tmp_path: Path):
    member = member_of(0)
    found = result_of(ensemble_of(member, copy.deepcopy(member)), split, tmp_path, digits)
    means = {m["name"]: m["mean"] for m in found["pairwise"]}
    assert means["label-disagreement"] == means["oracle-disagreement"] == means["error-ratio"] == 0
    assert means["q-statistic"] == means["correlation"] == pytest.approx(1)
    assert (found["equitability_right"], found["equitability_wrong"]) == (0, 0)
    assert [c["mean"] for c in found["attributions"]["cosines"]] == pytest.approx([1, 1])
    assert found["attributions"]["integrated_variance"] == pytest.approx(0, abs=1e-12)
    [pair] = found["layers"]
    assert np.diag(pair["matrix"]) == pytest.approx(1)
    assert min(map(min, pair["matrix"])) < 0.99


def test_batches_and_workers_change_no_number(three: Ensemble, split: Split, digits: data.Dataset, tmp_path: Path):
    one = result_of(three, split, tmp_path / "a", digits)
    other = result_of(three, split, tmp_path / "b", digits, batch_size=7, workers=2)
    assert one["layers"] == other["layers"]
    for a, b in zip(one["attributions"]["cosines"], other["attributions"]["cosines"], strict=True):
        assert a["mean"] == pytest.approx(b["mean"], rel=1e-5)
    assert one["attributions"]["saliency_variance"] == pytest.approx(other["attributions"]["saliency_variance"])
    study = study_of(split, 3)
    shown = [Store(tmp_path / n).load_facts(diversity.cells_of(study, study.ensembles[0])[0]).arrays for n in "ab"]
    for name in ("shown", "shown-saliency", "shown-gradcam-2"):
        np.testing.assert_allclose(shown[0][name], shown[1][name], rtol=1e-3, atol=1e-6)
        assert len(shown[0][name]) == 3


def test_what_is_stored_is_not_computed_again(
    three: Ensemble, split: Split, digits: data.Dataset, tmp_path: Path, monkeypatch: Any
):
    study = study_of(split, 3)
    store = carried_out(study, three, split, tmp_path, digits)
    before = diversity.Diversity.results(study, store)
    made = []
    monkeypatch.setattr(diversity, "attributions", lambda *given: made.append("attributions"))
    real = diversity.similarities
    monkeypatch.setattr(diversity, "similarities", lambda *given: made.append("layers") or real(*given))
    carried_out(study, three, split, tmp_path, digits)
    assert made == []
    layers = diversity.cells_of(study, study.ensembles[0])[1]
    (tmp_path / f"{layers.key}.npz").write_bytes(b"damaged")
    with pytest.raises(RunError, match="lacks the layers of adp; run the same command again"):
        diversity.Diversity.results(study, store)
    carried_out(study, three, split, tmp_path, digits)
    assert made == ["layers"]
    assert diversity.Diversity.results(study, store) == before


def test_one_member_leaves_a_note_and_its_gallery(split: Split, digits: data.Dataset, tmp_path: Path):
    study = study_of(split, 1)
    store = carried_out(study, ensemble_of(member_of(0)), split, tmp_path / "runs", digits)
    results = build(study, store)
    [found] = results["diversity"]
    assert (found["pairwise"], found["attributions"], found["layers"], found["ed"]) == ([], None, [], None)
    assert found["notes"] == ["One member only: there is nothing to compare, but the gallery shows where it looks."]
    assert len(found["member_accuracy"]) == 1
    table = find(tables(results), "diversity")
    assert "adp: One member only" in table.note
    assert [str(row[2]) for row in table.rows[2:]] == ["-"] * (len(table.rows) - 2)
    assert list(drawings(results)) == []
    assert len(_suites.write_sheets(study, store, tmp_path)) == 1


def test_members_without_maps_and_of_different_sizes_are_named(split: Split, digits: data.Dataset, tmp_path: Path):
    flat = nn.Sequential(nn.Flatten(), nn.Linear(64, 10))
    found = result_of(ensemble_of(member_of(0), flat), split, tmp_path / "a", digits)
    assert found["notes"][-1] == "No GradCAM cosines: member 1 has no convolutional maps of at least 3x3 pixels."
    assert [c["maps"] for c in found["attributions"]["cosines"]] == ["saliency"]
    [pair] = found["layers"]
    assert (pair["layers"][1], pair["same_layer"], len(pair["matrix"][0])) == (["1"], None, 1)
    wide = nn.Sequential(nn.Conv2d(1, 3, 3, padding=1), nn.ReLU(), nn.Flatten(), nn.Linear(192, 10))
    found = result_of(ensemble_of(member_of(0), wide), split, tmp_path / "b", digits)
    assert found["notes"][-1] == "No GradCAM cosines: the members' maps have different sizes (4x4, 8x8)."


class Always(nn.Module):
    """Answers one class, whatever it sees."""

    def __init__(self, label: int) -> None:
        super().__init__()
        self.out = nn.Linear(64, 10)
        nn.init.zeros_(self.out.weight)
        self.out.bias.data = 5.0 * torch.eye(10)[label]

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.out(x.flatten(1))


def test_members_that_never_make_the_same_error_are_infinitely_diverse(
    split: Split, digits: data.Dataset, tmp_path: Path
):
    found = result_of(ensemble_of(Always(1), Always(2)), split, tmp_path, digits)
    ratio = next(m for m in found["pairwise"] if m["name"] == "error-ratio")
    assert (ratio["mean"], ratio["infinite"], ratio["undefined"]) == (None, [[0, 1]], 0)
    json.dumps(found, allow_nan=False)
    assert any("1 of 1 pairs have different errors and no same one" in note for note in found["notes"])
    assert ("different / same errors", "", "high", math.inf) in list(_suite_diversity.measures(found))
    [row] = _suite_diversity._pairs([found]).rows
    assert "inf" in [str(cell) for cell in row]
    # A third that equals the first: their pair has only same errors, the other two none.
    three = result_of(ensemble_of(Always(1), Always(2), Always(1)), split, tmp_path / "three", digits)
    ratio = next(m for m in three["pairwise"] if m["name"] == "error-ratio")
    y = split.y.numpy()
    assert ratio["mean"] == pytest.approx(2 * (~np.isin(y, [1, 2])).sum() / (y != 1).sum())


def test_too_few_images_for_cka_and_too_many_members_for_ed(split: Split, digits: data.Dataset, tmp_path: Path):
    asked = {
        **ASKED,
        "attributions": {"samples": 3, "steps": 2, "shown": 0},
        "layers": {**ASKED["layers"], "samples": 3},
    }
    members = [nn.Sequential(nn.Flatten(), nn.Linear(64, 3)) for _ in range(3)]
    few = Split(split.x, split.y % 3, None).take(3)
    found = result_of(ensemble_of(*members), few, tmp_path, digits, asked=asked)
    assert found["layers"] == []
    assert found["ed"] == 0
    assert "ED is 0 by definition: 3 members, 2 other classes." in found["notes"]
    assert "No CKA: it needs four images, and convolutions or linear layers in every member." in found["notes"]


def test_answers_that_are_not_finite_are_left_out(three: Ensemble, split: Split, digits: data.Dataset, tmp_path: Path):
    class Broken(nn.Module):
        def __init__(self, member: nn.Module) -> None:
            super().__init__()
            self.member = member

        def forward(self, x: Tensor) -> Tensor:
            return self.member(x).masked_fill((x.sum((1, 2, 3)) < limit)[:, None], float("nan"))

    limit = split.tensor().sum((1, 2, 3)).quantile(0.1)
    ensemble = ensemble_of(Broken(three.members[0]), *three.members[1:])
    found = result_of(ensemble, split, tmp_path, digits)
    assert found["samples"] == 36
    assert found["notes"][0] == "4 samples are left out: the members' outputs on them are not finite."


class Closed(nn.Module):
    """A member that no gradient goes through."""

    def __init__(self, member: nn.Module) -> None:
        super().__init__()
        self.member = member

    def forward(self, x: Tensor) -> Tensor:
        with torch.no_grad():
            return self.member(x)


def test_members_without_gradients_keep_their_other_measures(
    three: Ensemble, split: Split, digits: data.Dataset, tmp_path: Path
):
    study = study_of(split, 3)
    ensemble = ensemble_of(*three.members[:2], Closed(three.members[2]))
    results = build(study, carried_out(study, ensemble, split, tmp_path / "runs", digits))
    [found] = results["diversity"]
    assert found["attributions"] is None
    assert found["notes"][-1].startswith("No attributions: ")
    assert len(found["layers"]) == 3
    assert len(found["pairwise"]) == len(PAIRWISE)
    assert [d.name for d in drawings(results)] == ["diversity-pairs", "diversity-cka-adp"]
    assert _suites.write_sheets(study, Store(tmp_path / "runs"), tmp_path) == []


@pytest.mark.parametrize(
    ("arch", "most", "expected"),
    [
        ("small-resnet", 20, ["conv1", *(f"layer{s}.0{p}" for s in (1, 2, 3) for p in PARTS), "linear"]),
        ("resnet20", 20, ["conv1", *(f"layer{s}.{b}" for s in (1, 2, 3) for b in range(3)), "linear"]),
        ("resnet20", 6, ["conv1", "layer1.1", "layer2.0", "layer2.2", "layer3.1", "linear"]),
        ("lenet", 20, ["conv1", "conv2", "fc1", "fc2", "fc3"]),
    ],
)  # fmt: skip
def test_the_layers_that_stand_for_a_member(arch: str, most: int, expected: list[str], digits: data.Dataset):
    side = 32 if arch == "lenet" else 8
    found = layers_of(member_of(0, arch), torch.rand(2, 1, side, side), most)
    assert [name.removeprefix("network.") for name in found] == expected


def test_a_module_that_works_in_place_does_not_change_the_layer_before_it():
    network = nn.Sequential(nn.Conv2d(1, 4, 3), nn.ReLU(inplace=True), nn.Flatten(), nn.Linear(144, 5)).eval()
    x = torch.rand(6, 1, 8, 8)
    found = _layers._grams(network, layers_of(network, x, 20), x)[0]
    features = network[0](x).detach().flatten(1).double()
    assert (features < 0).any()
    centred = features - features.mean(0)
    np.testing.assert_allclose(found, (centred @ centred.T).numpy(), rtol=1e-9)
    assert not any(m._forward_hooks for m in network.modules())


def test_a_checkpoint_from_the_command_to_the_report(three: Ensemble, tmp_path: Path):
    save_ensemble(
        three, tmp_path / "three", arch=["small-resnet"] * 3, classes=list("0123456789"), shape=(1, 8, 8)
    )  # fmt: skip
    out = tmp_path / "out"
    results = robustkit.evaluate(
        checkpoint=tmp_path / "three", suites="diversity", n=24, out=out, device="cpu", formats=("html",)
    )
    [found] = results["diversity"]
    assert found["ensemble"] == "three"
    assert (found["attributions"]["samples"], found["layer_samples"]) == (24, 24)
    assert json.loads((out / "results.json").read_text())["diversity"] == [found]
    every = tables(results)
    rows = {str(row[0]): str(row[2]) for row in find(every, "diversity").rows}
    q = next(m for m in found["pairwise"] if m["name"] == "double-fault")
    assert rows["double fault [%]"] == f"{100 * q['mean']:.1f}"
    table = find(every, "diversity-pairs")
    assert [str(row[1]) for row in table.rows] == ["0, 1", "0, 2", "1, 2"]
    assert found["wrong"] < 30
    assert f"Wrong answers: {found['wrong']} (three); measures" in find(every, "diversity").note
    assert table.records[2]["double-fault"] == q["matrix"][1][2]
    assert len(find(every, "diversity-cka").records) == 3 * 11 * 11
    assert [d.name for d in drawings(results)] == ["diversity-pairs", "diversity-cosines", "diversity-cka-three"]
    assert PIL.Image.open(out / "figures" / "diversity-gallery-three.png").width > 500
    page = (out / "report.html").read_text()
    assert "Diversity of the members" in page
    assert page.count("<svg") + page.count("data:image/svg") >= 3
    assert "three: where its members look" in page
    again = api.report(out, formats=("md",), out=tmp_path / "again")
    assert again["diversity"] == [found]


def similarity(i: int, j: int, layers: list[list[str]], value: float) -> LayerSimilarity:
    matrix = [[value] * len(layers[1]) for _ in layers[0]]
    return LayerSimilarity(members=[i, j], layers=layers, matrix=matrix, same_layer=value, last=value)


def test_many_pairs_share_a_map_where_their_layers_correspond():
    base: Any = {"ensemble": "adp", "members": 5}
    alike = [similarity(i, j, [["n.a", "n.b"]] * 2, 0.2 + 0.1 * i) for i, j in pairs(5)]
    figure = _diversity_maps.layers({**base, "layers": alike})
    assert [axes.get_title() for axes in figure.axes] == ["mean over 10 pairs", ""]  # the second is the colour bar
    assert np.ravel(figure.axes[0].collections[0].get_array().filled()) == pytest.approx(
        [0.3] * 4
    )  # 4 x .2, 3 x .3, 2 x .4, .5
    assert [t.get_text() for t in figure.axes[0].get_yticklabels()] == ["a", "b"]
    figure = _diversity_maps.layers({**base, "layers": alike[:3]})
    assert [axes.get_title() for axes in figure.axes[:3]] == [f"member 0 (rows), member {j}" for j in (1, 2, 3)]
    unlike = [similarity(i, j, [["a"] * (i + 1), ["a"] * (j + 1)], 0.5) for i, j in pairs(5)]
    figure = _diversity_maps.layers({**base, "layers": unlike})
    assert len(figure.axes) == 7
    assert "4 further pairs are in results.json" in figure.get_suptitle()
