"""The whole audit: files and modules become members of one ensemble, run as they were trained, and a report says so."""

from __future__ import annotations

import json
import re
from pathlib import Path
from types import SimpleNamespace

import networks
import pytest
import safetensors.torch
import torch
from in_process import invoke, parsed
from torch import nn

import robustkit
from robustkit import api, attacks, data
from robustkit.auditing import running
from robustkit.auditing.members import arguments
from robustkit.base.errors import UserError
from robustkit.ensembles.checkpoint import save_ensemble
from robustkit.ensembles.ensemble import Ensemble
from robustkit.pipeline import models_under_test
from robustkit.pipeline.request import Request, check
from robustkit.records.cells import Spec
from robustkit.study.config import AuditConfig
from robustkit.training.spec import TrainSpec

QUICK = {"attacks": "fgsm", "eps": "0.1", "reference": False, "trust": "off", "workers": 1}


@pytest.fixture
def files(resnets: Ensemble, tmp_path: Path) -> list[Path]:
    """Two members in two formats, their weights without any word on how they are to be run."""
    first, second = (member.network.state_dict() for member in list(resnets.members)[:2])
    torch.save({"state_dict": {f"module.{key}": value for key, value in first.items()}}, tmp_path / "first.pth")
    safetensors.torch.save_file(dict(second), tmp_path / "second.safetensors")
    return [tmp_path / "first.pth", tmp_path / "second.safetensors"]


@pytest.fixture
def perceptron_without_norm(digits: data.Dataset) -> nn.Module:
    """Learnt on plain pixels; nothing in it remembers them."""
    split = digits.split("train")
    torch.manual_seed(0)
    network = networks.perceptron(1, 10)
    optimiser = torch.optim.Adam(network.parameters(), 1e-2)
    for _ in range(60):
        loss = nn.functional.cross_entropy(network(split.tensor()), split.y)
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
    return network


def test_two_files_are_one_ensemble(files: list[Path], digits: data.Dataset, resnets: Ensemble, tmp_path: Path):
    results = robustkit.audit(
        files, "digits", n=60, suites="attacks,transfer", out=tmp_path / "out", formats=("html", "md"), **QUICK
    )
    [ensemble] = results["ensembles"]
    assert (ensemble["members"], ensemble["arch"]) == (2, "small-resnet")
    _, x, y = digits.split("test").take(60).batch(torch.arange(60))
    both = Ensemble(list(resnets.members)[:2]).eval()
    assert ensemble["accuracy"] == pytest.approx(float((both(x).argmax(1) == y).double().mean()))
    [accuracy, _] = results["transfer"][0]["matrix"][0][:2]
    assert 0 <= accuracy < ensemble["accuracy"]
    assert [a["format"] for a in results["audit"]] == ["torch state dict", "safetensors"]
    assert [a["where"] for a in results["audit"]][0].count("state_dict") == 1
    page = (tmp_path / "out/report.html").read_text("utf-8")
    for words in ("What was not tested", "natural corruptions", "backdoors", "What was audited, and how it was run"):
        assert words in page
    assert "transfer between the members" not in page
    assert "normalisation" in (tmp_path / "out/tables/audit.md").read_text("utf-8")


def test_labels_that_count_from_one_are_named_as_such(resnets: Ensemble, test_images, tmp_path: Path):
    x, y = test_images
    with pytest.raises(UserError) as error:
        robustkit.audit(resnets.members[0], (x, y + 1), suites="attacks", out=tmp_path / "out", formats=(), **QUICK)
    text = "the model has 10 outputs, but the data has labels from 1 to 10: they seem to count from 1; give y - 1."
    assert str(error.value) == text


def test_labels_in_another_shape_are_said(resnets: Ensemble, test_images, tmp_path: Path):
    x, y = test_images
    results = robustkit.audit(
        resnets.members[0], (x, y[:, None].numpy()), n=40, suites="attacks", out=tmp_path / "out", formats=(), **QUICK
    )
    [said] = [f for f in results["audit"][0]["findings"] if f["what"] == "labels"]
    assert (said["evidence"], said["concern"]) == ("the labels are a column, (N, 1): its numbers are read", False)


def test_a_module_and_tensors(resnets: Ensemble, test_images, tmp_path: Path):
    x, y = test_images
    results = robustkit.audit(
        resnets.members[0], (x, y), n=None, suites="attacks", out=tmp_path / "out", formats=(), **QUICK
    )
    assert results["dataset"]["n"] == len(x)
    expected = float((resnets.members[0](x).argmax(1) == y).double().mean())
    assert results["ensembles"][0]["accuracy"] == pytest.approx(expected)
    assert results["audit"][0]["format"] == "module in memory"


def test_an_exported_program_of_one_batch_size_is_audited(resnets: Ensemble, test_images, tmp_path: Path):
    x, y = test_images
    torch.export.save(torch.export.export(resnets.members[0], (x[:7],)), tmp_path / "m.pt2")
    results = robustkit.audit(
        tmp_path / "m.pt2", (x, y), trust_pickle=True, n=40, suites="attacks", out=tmp_path / "out", formats=(), **QUICK
    )
    with torch.no_grad():
        expected = float((resnets.members[0](x[:40]).argmax(1) == y[:40]).double().mean())
    assert results["ensembles"][0]["accuracy"] == pytest.approx(expected)
    assert results["evaluations"][0]["robust_accuracy"] < expected
    assert not any(found["concern"] for found in results["audit"][0]["findings"])


def untrained(channels: int, classes: int) -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Conv2d(channels, 4, 3), nn.ReLU(), nn.AdaptiveAvgPool2d(2), nn.Flatten(), nn.Linear(16, classes)
    )


@pytest.mark.parametrize(
    ("channels", "classes", "message"),
    [
        (3, 10, r"'Sequential-0' takes images of 3 channels, those of digits have 1; name the data .* or add --force"),
        (1, 12, r"'Sequential-0' has 12 outputs, but digits has 10 classes; name the data .* or add --force"),
        (1, 10, r"is right on 0.\d+ of 500 images of digits in the best of 5 ways to run it, no better than a constant "
         r"answer; name the data .* or add --force"),
    ],
)  # fmt: skip
def test_a_model_of_other_data_is_refused_unless_forced(channels: int, classes: int, message: str, tmp_path: Path):
    asked = {**QUICK, "suites": "attacks", "n": 20, "out": tmp_path / "out", "formats": ()}
    with pytest.raises(UserError, match=message):
        robustkit.audit(untrained(channels, classes), "digits", **asked)
    assert not (tmp_path / "out").exists()
    results = robustkit.audit(
        untrained(channels, classes), "digits", force=True, normalize="none", input_size=8, **asked
    )
    assert [f["what"] for f in results["audit"][0]["findings"] if f["concern"]]


def test_few_images_and_those_of_one_label_refuse_no_model(test_images, tmp_path: Path):
    x, y = test_images
    asked = {**QUICK, "suites": "attacks", "formats": ()}
    for name, rows in (("one label", torch.nonzero(y == 3).flatten()), ("few", torch.arange(3))):
        results = robustkit.audit(untrained(1, 10), (x[rows], y[rows]), out=tmp_path / name, **asked)
        assert "normalisation" in [f["what"] for f in results["audit"][0]["findings"] if f["concern"]]


def test_concerns_stand_on_the_first_page(resnets: Ensemble, test_images, tmp_path: Path):
    class Noisy(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.inner = resnets.members[0]

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return self.inner(x) + 3 * torch.randn(len(x), 10)

    results = robustkit.audit(
        Noisy(), test_images, n=32, suites="attacks", out=tmp_path / "out", formats=("html",), **QUICK
    )
    # No number is better than suspect, for a reason that no attack can find out.
    for number in (*results["evaluations"], *results["worst_case"]):
        assert number["verdict"] in ("suspect", "invalid")
        (advice,) = [c["advice"] for c in number["checks"] if c["name"] == "sound-set-up"]
        assert advice.startswith("the set-up itself is in doubt: ")
        assert "randomness: random" in advice
    page = (tmp_path / "out/report.html").read_text("utf-8")
    assert "Reasons to doubt every number here" in page
    assert "randomness is random" in page


def test_of_several_ways_the_lowest_worst_case_is_quoted(test_images, tmp_path: Path, perceptron_without_norm):
    x, y = test_images
    x, y = x[:200], y[:200]
    asked = {**QUICK, "trust": "quick", "eps": "0.02,0.1", "suites": "attacks,calibration", "formats": (), "n": 60}
    # What is required of a budget at which the ways are not attacked is no matter before one of them is chosen.
    results = robustkit.audit(
        perceptron_without_norm, (x, y), out=tmp_path / "out", minimum="worst_case@0.02>=0", require="invalid", **asked
    )
    [finding] = [f for f in results["audit"][0]["findings"] if f["what"] == "normalisation"]
    assert (finding["how"], finding["concern"]) == ("assumed", True)
    said = re.search(r"worst cases at eps 0.1: (.*); the lowest is quoted", finding["evidence"])
    named = {name: float(value) for name, value in (part.rsplit(" ", 1) for part in said[1].split(", "))}
    assert len(named) > 1
    alone = {
        name: robustkit.audit(
            perceptron_without_norm, (x, y), normalize=name, pixel_range=1, out=tmp_path / name, **asked
        )["worst_case"][-1]
        for name in named
    }  # fmt: skip
    assert named == {name: pytest.approx(w["robust_accuracy"], abs=6e-4) for name, w in alone.items()}
    assert finding["value"] == min(named, key=named.__getitem__)
    assert results["worst_case"][-1]["robust_accuracy"] == min(w["robust_accuracy"] for w in alone.values())
    assert all(w["verdict"] != "trusted" for w in results["worst_case"])
    assert len(results["ensembles"]) == 1


def test_the_same_weights_run_otherwise_are_another_model(files: list[Path], tmp_path: Path):
    found = {}
    for normalize in ("none", "half"):
        results = robustkit.audit(
            files[0], "digits", normalize=normalize, n=40, suites="attacks", out=tmp_path / "out",
            formats=(), **QUICK,
        )  # fmt: skip
        found[normalize] = results["ensembles"][0]["accuracy"]
    assert found["none"] > found["half"]  # nothing of the first was taken for the second


def test_the_command(files: list[Path], tmp_path: Path):
    out = tmp_path / "out"
    asked = [
        "audit",
        *map(str, files),
        "--dataset",
        "digits",
        "--n",
        "24",
        "--attacks",
        "fgsm",
        "--eps",
        "0.1",
        "--suites",
        "attacks",
    ]
    code, printed, error = invoke(*asked, "--trust", "off", "--workers", 1, "--normalize", "none", "--out", out)
    assert code == 0, error
    assert printed.splitlines()[-1] == f"report: {out / 'report.html'}"
    results = json.loads((out / "results.json").read_text("utf-8"))
    again = parsed(results["run"]["command"])  # whole, so that it can be typed again
    assert (again.dataset, again.n, again.trust, again.models) == ("digits", 24, "off", list(files))
    assert results["run"]["configuration"]["dataset"] == "digits"
    assert not any("..." in c["advice"] for number in results["worst_case"] for c in number["checks"])
    end = printed.splitlines()
    assert len(end[next(at for at, line in enumerate(end) if line.startswith("audited keeps ")) :]) <= 12
    findings = results["audit"][0]["findings"]
    assert ("normalisation", "none", "given") in [(f["what"], f["value"], f["how"]) for f in findings]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--channel-order", "gbr"], "unknown channel order 'gbr'"),
        (["--outputs", "votes"], "unknown kind of outputs 'votes'"),
        (["--pixel-range", "2"], "unknown pixel range '2'"),
        (["--input-size", "0"], "input size 0 is out of range"),
        (["--normalize", "imagnet"], "normalize 'imagnet' is not known"),
        (["--arch-args", "depth=2"], "--arch-args depth=2 has no effect without --arch"),
        (["--arch", "resnet20", "--arch-args", "depth"], "'depth' is not of the form name=value"),
        (["--arch", "resnet21"], "resnet21"),
        (["--dataset", "digitz"], "unknown dataset 'digitz'"),
        (["--ood", "fra:digits"], "unknown out-of-distribution set 'fra'"),
        (["--trust", "fast"], "unknown trust 'fast'"),
        (["--min", "frist:clean>=0.1"], "unknown ensemble in --min 'frist': did you mean 'first'"),
        (["--corruption-reference", "alexnt"], "unknown reference of corruptions 'alexnt'"),
        (["--corruption-dir", "gone"], "'gone'"),
        (["--frost-dir", "gone"], "'gone'"),
    ],
)
def test_bad_input_is_one_sentence(files: list[Path], tmp_path: Path, options: list[str], message: str):
    given = [] if "--dataset" in options else ["--dataset", "digits"]
    code, _, error = invoke("audit", files[0], "--out", tmp_path / "out", *given, *options)
    assert code == 2
    assert message in error
    assert len(error.strip().splitlines()) == 1
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(("option", "typo"), [("--ood", "near:digitz"), ("--trust", "ful")])
def test_a_typo_is_found_before_the_model_is_read(tmp_path: Path, option: str, typo: str):
    code, _, error = invoke("audit", tmp_path / "gone.pth", "--dataset", "digits", option, typo)
    assert code == 2
    assert typo.removeprefix("near:") in error


def test_naming_a_set_turns_the_suite_ood_on(resnets: Ensemble, test_images, tmp_path: Path, monkeypatch):
    asked: list[Request] = []

    def noted(config: AuditConfig, _: object, suites: list[str]) -> SimpleNamespace:
        asked.append(check(config, suites))
        return SimpleNamespace(folder=tmp_path, request=asked[-1])

    with monkeypatch.context() as patch:
        patch.setattr(running.pipeline, "evaluate", noted)
        patch.setattr(api, "report", lambda *_, **__: None)
        for named in (None, "far:photo-tiles"):
            robustkit.audit(resnets.members[0], test_images, ood=named, out=tmp_path)
    assert ["ood" in one.suites for one in asked] == [False, True]
    assert [set(one.suites) - {"ood"} for one in asked] == [{"attacks", "corruptions", "detection", "calibration"}] * 2
    monkeypatch.setattr(running, "SUITES", ("attacks",))  # the others take minutes
    results = robustkit.audit(
        resnets.members[0], test_images, ood="far:photo-tiles", n=20, out=tmp_path / "out", formats=("html",), **QUICK
    )
    assert [one["name"] for one in results["ood"][0]["sets"]] == ["photo-tiles"]
    page = (tmp_path / "out/report.html").read_text("utf-8")
    assert "images from elsewhere (out-of-distribution)" not in page


@pytest.fixture
def independent(resnets: Ensemble, digits: data.Dataset, tmp_path: Path) -> tuple[Ensemble, Path]:
    """Two other members of the same training, as a checkpoint of robustkit's."""
    other = Ensemble(list(resnets.members)[1:]).eval()
    save_ensemble(
        other, tmp_path / "B", arch=["small-resnet"] * 2, classes=list(digits.classes), shape=digits.shape,
        data={"name": "digits", "sha256": digits.split("train").sha256()},
    )  # fmt: skip
    return other, tmp_path / "B"


def test_attacks_on_an_independent_model_meet_the_audited_one(
    resnets: Ensemble, independent: tuple[Ensemble, Path], test_images, tmp_path: Path, digits: data.Dataset
):
    (other, folder), model = independent, resnets.members[0]
    results = robustkit.audit(
        model, "digits", surrogate=folder, n=200, suites="attacks,transfer", out=tmp_path / "out", formats=("html",),
        **QUICK,
    )  # fmt: skip
    x, y = test_images
    made = attacks.get("fgsm")(other, x, y, eps=0.1)
    with torch.no_grad():
        expected = float((model(made).argmax(1) == y).double().mean())
        right = float((other(x).argmax(1) == y).double().mean())
    assert expected < 0.9  # it does transfer
    [matrix] = [t for t in results["transfer"] if t["metric"] == "accuracy"]
    assert (matrix["sources"], matrix["targets"]) == (["member-0", "surrogate B", "ensemble"], ["member-0", "ensemble"])
    assert matrix["matrix"][1] == pytest.approx([expected, expected], abs=0.006)  # a folded copy is attacked
    assert matrix["matrix"][0][1] < expected  # the model's own gradients tell more
    [surrogate] = results["surrogates"]
    assert (surrogate["id"], surrogate["accuracy"], len(results["ensembles"])) == ("B", pytest.approx(right), 1)
    page = (tmp_path / "out/report.html").read_text("utf-8")
    assert "Transfer from an independent model" in page
    assert f"fgsm at eps {0.1:g}, crafted on B (2 x small-resnet" in page
    assert "(--surrogate)" not in page
    again = api.report(tmp_path / "out", formats=())
    assert again["transfer"] == results["transfer"]


def test_without_an_independent_model_the_report_says_so(resnets: Ensemble, test_images, tmp_path: Path):
    robustkit.audit(
        resnets.members[0], test_images, n=20, suites="attacks", out=tmp_path / "out", formats=("html",), **QUICK
    )
    page = (tmp_path / "out/report.html").read_text("utf-8")
    assert "transfer from an independent model (--surrogate)" in page
    assert "<h2>Transfer from an independent model" not in page


def test_the_baseline_is_trained_as_evaluate_trains_it(resnets: Ensemble, test_images, tmp_path: Path, monkeypatch):
    specs: list[TrainSpec] = []
    whole = data.in_memory(test_images)
    record = models_under_test.record_of("baseline", "baseline", {}, ["small-resnet"] * 3, resnets)
    monkeypatch.setattr(
        models_under_test, "trained", lambda spec, *rest, **more: specs.append(spec) or (record, resnets)
    )
    results = robustkit.audit(
        resnets.members[0], whole, surrogate="train", settings=["train.lr=0.002"], suites="transfer", n=40,
        out=tmp_path / "out", formats=(), **QUICK,
    )  # fmt: skip
    expected = models_under_test.train_spec(Spec("defense", "baseline", {}), whole, {"lr": 0.002})
    assert specs == [expected]
    assert results["dataset"]["split"] == "test"  # of data without splits, only what the baseline was not trained on


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--surrogate", "nowhere"], "nowhere"),
        (["--surrogate", "train", "--suites", "attacks"], "--surrogate train serves the suite transfer"),
    ],
)
def test_a_baseline_that_cannot_serve_is_refused_before_the_model_is_read(
    tmp_path: Path, options: list[str], message: str
):
    code, _, error = invoke("audit", tmp_path / "gone.pth", "--dataset", "digits", *options)
    assert code == 2
    assert message in error
    assert "gone.pth" not in error


def test_arguments_of_architectures():
    assert arguments(["depth=28", "widen=1.5", "bias=false", "kind=a=b"]) == {
        "depth": 28, "widen": 1.5, "bias": False, "kind": "a=b",
    }  # fmt: skip


def test_a_model_in_memory_is_left_as_it_was(network, test_images, tmp_path: Path):
    network.train()
    robustkit.audit(network, test_images, n=20, suites="calibration", out=tmp_path, formats=())
    assert all(part.training for part in network.modules())


def test_no_model_is_refused(test_images):
    with pytest.raises(UserError, match="no model to audit"):
        robustkit.audit([], test_images)
