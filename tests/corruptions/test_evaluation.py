"""Corruptions in an evaluation: planned, run, stored, resumed, counted, reported; copies written and read again."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import PIL.Image
import pytest
import torch
from corruption_textures import write_textures
from in_process import invoke

import robustkit
from robustkit import corruptions, data
from robustkit.base.errors import UserError
from robustkit.base.progress import Reporter
from robustkit.corruptions import _copy, _plan, _run
from robustkit.corruptions._published import Published
from robustkit.corruptions._results import corruption_results
from robustkit.data import Split
from robustkit.ensembles.ensemble import Ensemble
from robustkit.evaluation.cell import RunOptions, run_cell
from robustkit.functional.sampling import SampleGenerator
from robustkit.pipeline.results import build
from robustkit.records.cells import DatasetRecord, EnsembleRecord, Spec
from robustkit.records.store import Store
from robustkit.reports import _corruptions, _suites
from robustkit.reports._tables import find, tables
from robustkit.study.plan import Study

CPU = RunOptions(torch.device("cpu"), workers=1)
SPECS = tuple(
    Spec("cifar-c", name, {"table": "cifar", "severity": severity})
    for name in ("fog", "contrast")
    for severity in (1, 2, 3, 4, 5)
)


def record(name: str, defense: str = "adp") -> EnsembleRecord:
    return EnsembleRecord(name, f"key-{name}", defense, {}, ("lenet",), 3, "mean-prob", "ab" * 32)


@pytest.fixture(scope="module")
def fitted(digits: data.Dataset) -> Ensemble:
    """Three linear classifiers of digits, each fitted to its own third by ridge regression."""
    train = digits.split("train")
    x, y = train.tensor().flatten(1).double(), torch.nn.functional.one_hot(train.y, 10).double()
    members = []
    for third in range(3):
        own, goal = x[third::3], y[third::3]
        weight = torch.linalg.solve(own.T @ own + torch.eye(64), own.T @ (goal - 0.1))
        linear = torch.nn.Linear(64, 10)
        linear.weight.data, linear.bias.data = 10 * weight.T.float(), torch.zeros(10)
        members.append(torch.nn.Sequential(torch.nn.Flatten(), linear))
    return Ensemble(members, fusion="mean-prob").eval()


@pytest.fixture
def split(digits: data.Dataset) -> Split:
    return digits.split("test").take(40)


def study_of(split: Split, specs: tuple[Spec, ...] = SPECS, ensembles: tuple[str, ...] = ("adp",)) -> Study:
    return Study(
        ensembles=tuple(record(name, name) for name in ensembles),
        dataset=DatasetRecord("digits", "test", len(split), tuple("0123456789"), split.sha256(), split.shape),
        attacks=(), eps=(0.1,), norm="linf", transfer_eps=0.1, suites=("corruptions",), version="1", corruptions=specs,
    )  # fmt: skip


def carried_out(
    study: Study, models: dict[str, Ensemble], split: Split, folder: Path, published: Published | None = None
) -> Store:
    store = Store(folder)
    for ensemble in study.ensembles:
        store.save(run_cell(study.clean(ensemble), models[ensemble.key], split, None, CPU))
    _run.run_corruptions(study, models, split, store, CPU, Reporter(), published)
    return store


def test_numbers_are_those_of_corrupting_and_asking_the_model(fitted: Ensemble, split: Split, tmp_path: Path):
    study = study_of(split)
    result = corruption_results(study, carried_out(study, {"key-adp": fitted}, split, tmp_path))[0]
    ids, x, y = split.batch(torch.arange(40))
    shares, own = [], []
    for spec in SPECS:
        severity = spec.params["severity"]
        generator = SampleGenerator(0, ids, f"{spec.name}/{severity}")
        made = corruptions.get(spec.name)(x, severity, generator=generator)
        with torch.no_grad():
            logits = fitted.member_logits(made)
            shares.append(float((fitted.fuse(logits).argmax(1) == y).float().mean()))
            own.append((logits.argmax(2) == y).float().mean(1).numpy())
    assert [level["accuracy"] for level in result["levels"]] == pytest.approx(shares)
    assert result["accuracy"] == pytest.approx(np.mean(shares))
    assert result["member_accuracy"] == pytest.approx(np.mean(own, 0))
    assert result["accuracy_drop"] == pytest.approx(result["clean_accuracy"] - np.mean(shares))
    assert result["accuracy_drop"] > 0.05
    assert (result["mce"], result["reference"]) == (None, None)


def test_the_plain_ensemble_is_the_reference(fitted: Ensemble, split: Split, tmp_path: Path):
    weak = Ensemble(fitted.members[:1], fusion="mean-prob").eval()
    study = study_of(split, ensembles=("baseline", "adp"))
    study = Study(**{**study.__dict__, "ensembles": (record("baseline", "baseline"), record("adp"))})
    store = carried_out(study, {"key-baseline": weak, "key-adp": fitted}, split, tmp_path)
    plain, other = corruption_results(study, store)
    assert plain["mce"] == pytest.approx(100)

    def error(result: Any, name: str) -> float:
        return float(np.mean([1 - level["accuracy"] for level in result["levels"] if level["corruption"] == name]))

    ratios = [error(other, name) / error(plain, name) for name in ("fog", "contrast")]
    assert other["mce"] == pytest.approx(100 * np.mean(ratios))
    assert other["reference"] == "baseline"


def test_any_ensemble_is_the_reference_if_it_is_named(fitted: Ensemble, split: Split, tmp_path: Path):
    weak = Ensemble(fitted.members[:1], fusion="mean-prob").eval()
    study = Study(**{**study_of(split, ensembles=("adp", "gal")).__dict__, "corruption_reference": "gal"})
    study = Study.from_json(json.loads(json.dumps(study.to_json())))
    store = carried_out(study, {"key-adp": fitted, "key-gal": weak}, split, tmp_path)
    adp, gal = corruption_results(study, store)
    assert (gal["mce"], gal["reference"], adp["reference"]) == (pytest.approx(100), "gal", "gal")
    assert adp["mce"] < 100  # three know more than one
    fog = SPECS[:5]
    one = Study(**{**study_of(split, fog).__dict__, "corruption_reference": "alexnet"})
    [result] = corruption_results(one, store)
    errors = [1 - level["accuracy"] for level in result["levels"]]
    assert result["mce"] == pytest.approx(100 * np.mean(errors) / 0.819324)
    clean = 1 - result["clean_accuracy"]
    assert result["relative_mce"] == pytest.approx(100 * (np.mean(errors) - clean) / (0.819324 - 0.435))
    assert _plan.reference_of(None, ["adp"]) == ""
    with pytest.raises(UserError, match="unknown reference of corruptions 'gall': did you mean 'gal'"):
        _plan.reference_of("gall", ["adp", "gal"])


def test_why_there_is_no_relative_mce(fitted: Ensemble, split: Split, tmp_path: Path):
    """A reference that knows nothing errs on clean images as on others."""
    blind = Ensemble([torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(64, 10))], fusion="mean-prob").eval()
    torch.nn.init.zeros_(blind.members[0][1].weight)
    study = Study(**{**study_of(split, ensembles=("adp", "gal")).__dict__, "corruption_reference": "gal"})
    store = carried_out(study, {"key-adp": fitted, "key-gal": blind}, split, tmp_path)
    adp = corruption_results(study, store)[0]
    assert adp["relative_mce"] is None
    assert adp["notes"][-1] == "Relative mCE is not defined: fog, contrast raised no error of gal."


def test_what_is_stored_is_not_made_again(fitted: Ensemble, split: Split, tmp_path: Path, monkeypatch: Any):
    study, models = study_of(split), {"key-adp": fitted}
    store = carried_out(study, models, split, tmp_path)
    made = []
    get = corruptions.get
    monkeypatch.setattr(_run, "get", lambda name: made.append(name) or get(name))
    _run.run_corruptions(study, models, split, store, CPU, Reporter())
    assert made == []
    cell = next(iter(_plan.cells(study)))
    (tmp_path / f"{cell.key}.npz").write_bytes(b"damaged")
    _run.run_corruptions(study, models, split, store, CPU, Reporter())
    assert made == ["fog"]


def test_batches_change_no_number(fitted: Ensemble, split: Split, tmp_path: Path, monkeypatch: Any):
    study, models = study_of(split), {"key-adp": fitted}
    whole = corruption_results(study, carried_out(study, models, split, tmp_path / "a"))
    monkeypatch.setattr(_run, "batch_of", lambda shape, device: 7)
    assert corruption_results(study, carried_out(study, models, split, tmp_path / "b"))[0]["levels"] == [
        {
            key: value if key in ("corruption", "severity", "strength") else pytest.approx(value)
            for key, value in row.items()
        }
        for row in whole[0]["levels"]
    ]


def test_two_suites_share_a_cell_and_a_study_survives_json(split: Split):
    doubled = (*SPECS, Spec("my-suite", "fog", {"table": "cifar", "severity": 1}))
    study = study_of(split, doubled)
    assert len(list(_plan.cells(study))) == len(SPECS)
    assert Study.from_json(json.loads(json.dumps(study.to_json()))) == study


def test_the_plan_of_a_suite(tmp_path: Path):
    write_textures(tmp_path)
    specs = _plan.ask(("cifar-c", "design-diversity"), (3, 32, 32), textures=tmp_path)
    assert len(specs) == 15 * 5 + 4
    assert {s.params.get("textures") for s in specs if s.name == "frost"} == {str(tmp_path)}
    assert [s.params for s in specs if s.kind == "design-diversity" and s.name == "lines"] == [
        {"strength": 1.6, "severity": 1}
    ]
    assert _plan.ask(None, (3, 224, 224))[0].kind == "imagenet-c"
    with pytest.raises(UserError, match="unknown corruption suite 'cifarc': did you mean 'cifar-c'"):
        _plan.chosen("cifarc")
    with pytest.raises(UserError, match="images of 5x6 pixels cannot be corrupted"):
        _plan.ask(None, (1, 5, 6))
    with pytest.raises(UserError, match="need a larger one"):
        _plan.ask(("imagenet-c",), (3, 224, 240), textures=tmp_path)


@pytest.mark.parametrize("layout", ["npy", "folders"])
def test_a_copy_reads_back_as_what_an_evaluation_makes(
    layout: str, fitted: Ensemble, split: Split, tmp_path: Path, monkeypatch: Any
):
    monkeypatch.setitem(corruptions.SUITES, "small", corruptions.Suite("small", "Small", tuple(
        member for member in corruptions.SUITES["cifar-c"].members if member.name in ("fog", "contrast")
    )))  # fmt: skip
    _copy.corrupt("digits", tmp_path / "copy", suites="small", layout=layout, n=40)
    published = Published(tmp_path / "copy")
    specs = _plan.ask(("small",), split.shape, published=published)
    read = study_of(split, specs)
    fresh = study_of(split, _plan.ask(("small",), split.shape))
    results = [
        corruption_results(study, carried_out(study, {"key-adp": fitted}, split, tmp_path / str(i), published))[0]
        for i, study in enumerate((read, fresh))
    ]
    assert [r["source"] for r in results] == ["published", "generated"]
    assert results[0]["missing"] == []
    for one, other in zip(results[0]["levels"], results[1]["levels"], strict=True):
        assert one["accuracy"] == other["accuracy"]
        assert one["nll"] == pytest.approx(other["nll"], abs=1e-5)


def array_set(folder: Path, split: Split, names: tuple[str, ...]) -> None:
    """As CIFAR-10-C: five severities, here the image itself darkened by (severity - 1) / 10."""
    folder.mkdir()
    _, x, y = split.batch(torch.arange(len(split)))
    levels = np.concatenate(
        [(x.permute(0, 2, 3, 1).numpy() * (1.1 - s / 10) * 255).astype(np.uint8) for s in range(1, 6)]
    )
    for name in names:
        np.save(folder / f"{name}.npy", levels)
    np.save(folder / "labels.npy", np.tile(y.numpy(), 5))


def test_an_incomplete_set_names_what_is_missing_and_gives_the_rest(fitted: Ensemble, split: Split, tmp_path: Path):
    array_set(tmp_path / "c", split, ("fog", "snow", "contrast"))
    whole = (tmp_path / "c" / "snow.npy").read_bytes()
    (tmp_path / "c" / "snow.npy").write_bytes(whole[: len(whole) // 2])
    published = Published(tmp_path / "c")
    study = study_of(split, _plan.ask(("cifar-c",), split.shape, published=published))
    result = corruption_results(study, carried_out(study, {"key-adp": fitted}, split, tmp_path / "r", published))[0]
    assert {level["corruption"] for level in result["levels"]} == {"fog", "contrast"}
    assert set(result["missing"]) == {*corruptions.FIFTEEN} - {"fog", "contrast"}
    assert "lacks gaussian_noise" in result["notes"][0]
    assert result["levels"][0]["accuracy"] == pytest.approx(result["clean_accuracy"], abs=0.03)  # severity 1 is clean


def test_a_set_of_other_images_is_refused(fitted: Ensemble, split: Split, digits: data.Dataset, tmp_path: Path):
    other = digits.split("train").take(40)
    array_set(tmp_path / "c", other, ("fog",))
    published = Published(tmp_path / "c")
    study = study_of(split, _plan.ask(("cifar-c",), split.shape, published=published))
    with pytest.raises(UserError, match="are not those of the images evaluated"):
        carried_out(study, {"key-adp": fitted}, split, tmp_path / "r", published)
    (tmp_path / "c" / "labels.npy").unlink()
    with pytest.raises(UserError, match=r"has no labels.npy"):
        Published(tmp_path / "c")
    with pytest.raises(UserError, match="holds no corruption"):
        Published(tmp_path / "r")
    with pytest.raises(UserError, match="is no folder"):
        Published(tmp_path / "nowhere")


def tampered(folder: Path, images: Any = None, labels: Any = None) -> str:
    """Return why a set is refused whose arrays were changed."""
    array, y = np.load(folder / "fog.npy"), np.load(folder / "labels.npy")
    np.save(folder / "fog.npy", array if images is None else images(array))
    np.save(folder / "labels.npy", y if labels is None else labels(y))
    try:
        published = Published(folder)
        with pytest.raises(UserError) as refused:
            _plan.ask(("cifar-c",), (1, 8, 8), published=published)
        return str(refused.value)
    finally:
        np.save(folder / "fog.npy", array)
        np.save(folder / "labels.npy", y)


def test_arrays_that_are_no_five_severities_are_refused_with_what_was_found(split: Split, tmp_path: Path):
    folder = tmp_path / "c"
    array_set(folder, split, ("fog",))
    n = len(split)
    one = tampered(folder, lambda x: x[:n], lambda y: y[:n])
    assert f"has {n} labels, and those of severity 2 are not those of severity 1" in one
    assert "goes into folders" in one

    def reordered(array: np.ndarray) -> np.ndarray:
        third = array[2 * n : 3 * n]
        return np.concatenate([array[: 2 * n], third[::-1], array[3 * n :]])

    assert "those of severity 3 are not those of severity 1" in tampered(folder, reordered, reordered)
    assert "holds float32, not uint8 pixels from 0 to 255" in tampered(folder, lambda x: (x / 255).astype(np.float32))
    assert "holds int64, not uint8" in tampered(folder, lambda x: x.astype(np.int64))
    assert f"has {n} images, but labels.npy {5 * n} labels; a set has the N test" in tampered(folder, lambda x: x[:n])
    assert f"has {5 * n - 1} labels, which is not five times anything" in tampered(folder, labels=lambda y: y[:-1])
    assert "holds float64 of shape" in tampered(folder, labels=lambda y: y.astype(float))
    assert "give images (5 N, H, W, C)" in tampered(folder, lambda x: x.reshape(5 * n, -1))
    (folder / "labels.npy").write_bytes(b"labels")
    with pytest.raises(UserError, match=r"labels.npy' cannot be read"):
        Published(folder).severities("fog")


def test_a_published_set_that_does_not_fit_is_refused_before_any_work(digits: data.Dataset, tmp_path: Path):
    asked = {"dataset": "digits", "suites": "corruptions", "corruptions": "cifar-c", "n": 30, "formats": ()}
    array_set(tmp_path / "c", digits.split("test").select(torch.arange(39, -1, -1)), ("fog",))
    with pytest.raises(UserError, match="of fog at severity 1 are not those of the images evaluated"):
        robustkit.evaluate(**asked, corruption_dir=tmp_path / "c", out=tmp_path / "out")
    array_set(tmp_path / "few", digits.split("test").take(20), ("fog",))
    with pytest.raises(UserError, match="has 20 images of fog at severity 1; sample 29 is not there"):
        robustkit.evaluate(**asked, corruption_dir=tmp_path / "few", out=tmp_path / "out")
    array_set(tmp_path / "wide", digits.split("test").take(40), ("fog",))
    wide = np.load(tmp_path / "wide" / "fog.npy").repeat(2, 2)
    np.save(tmp_path / "wide" / "fog.npy", wide)
    with pytest.raises(UserError, match="are 1x8x16, yours 1x8x8; give a set of that size"):
        robustkit.evaluate(**asked, corruption_dir=tmp_path / "wide", out=tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_folders_named_by_strength_and_grouped(tmp_path: Path):
    """ImageNet-C has groups of corruptions, the C-bar sets name severities by strength."""
    for place in (
        "blur/defocus_blur/1",
        "blur/defocus_blur/2",
        *(f"noise/lines/{s}" for s in (0.50, 1.0, 1.5, 2.0, 2.5)),
    ):
        for label, name in enumerate(("n01", "n02")):
            folder = tmp_path / place / name
            folder.mkdir(parents=True)
            PIL.Image.fromarray(np.full((8, 8, 3), 50 * label, np.uint8)).save(folder / "ILSVRC_1.png")
    published = Published(tmp_path)
    assert published.severities("defocus_blur") == (1, 2)
    assert published.severities("lines") == (1, 2, 3, 4, 5)
    assert published.severities("fog") == ()
    images = published.images("lines", 3, torch.tensor([0, 1]), torch.tensor([1, 0]), torch.tensor([1, 0]))
    assert (images[:, 0, 0, 0] * 255).round().tolist() == [50, 0]


def test_reports_show_suites_severities_and_images(fitted: Ensemble, split: Split, tmp_path: Path):
    study = study_of(split)
    store = carried_out(study, {"key-adp": fitted}, split, tmp_path / "runs")
    results = build(study, store)
    every = tables(results)
    summary, detail = find(every, "corruptions"), find(every, "corruptions-cifar-c")
    assert [str(row[1]) for row in summary.rows] == ["adp", "adp, member 0", "adp, member 1", "adp, member 2"]
    assert len(summary.records) == 10
    assert [str(row[0]) for row in detail.rows] == ["fog", "contrast"]
    fog = [level["accuracy"] for level in results["corruptions"][0]["levels"][:5]]
    assert [str(cell) for cell in detail.rows[0][2:]] == [f"{100 * v:.1f}" for v in [*fog, np.mean(fog)]]
    assert "scaled, are those for 32 pixels; images are 8x8" in summary.note
    assert list(_corruptions.by_suite(results)) == ["cifar-c"]
    [written] = _suites.write_sheets(study, store, tmp_path)
    [sheet] = _suites.sheets(results, "corruptions", tmp_path)
    assert sheet.file == written
    assert PIL.Image.open(written).width > 300


def test_the_command_writes_a_copy_and_refuses_what_does_not_fit(tmp_path: Path):

    out = tmp_path / "copy"
    code, printed, error = invoke("corrupt", "digits", out, "--suite", "design-diversity", "--n", 3)
    assert code == 0, error
    assert printed.splitlines()[-1] == f"4 corruptions: {out}"
    assert np.load(out / "lines.npy").shape == (3, 8, 8, 1)
    assert np.load(out / "labels.npy").shape == (3,)
    with pytest.raises(UserError, match="differ in constants or severities of"):
        _copy.corrupt("digits", tmp_path / "b", suites="cifar-c,design-diversity", n=2)
    with pytest.raises(UserError, match="unknown layout 'zip'"):
        _copy.corrupt("digits", tmp_path / "b", layout="zip")
    assert not (tmp_path / "b").exists()


@pytest.mark.skipif(not Path("/proc/self/maps").exists(), reason="needs /proc")
def test_an_array_of_a_copy_is_not_mapped_when_it_gets_its_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    rename, named = Path.replace, []

    def replace(self: Path, target: Path) -> Path:  # Windows refuses it for a file that is mapped
        named.append(self.name)
        assert str(self) not in Path("/proc/self/maps").read_text("utf-8")
        return rename(self, target)

    monkeypatch.setattr(Path, "replace", replace)
    assert invoke("corrupt", "digits", tmp_path / "copy", "--suite", "design-diversity", "--n", 3)[0] == 0
    assert "lines.part" in named
