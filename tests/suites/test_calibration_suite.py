"""Calibration of an evaluation: what the temperature is fitted on, what it changes, and what is said of thin data."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from scipy.optimize import minimize_scalar
from sklearn.metrics import log_loss
from suite_models import asked, carried_out, linear
from torchmetrics.functional.classification import multiclass_calibration_error

from robustkit import api, suites
from robustkit.base.errors import UserError
from robustkit.data import Dataset, Split
from robustkit.ensembles.checkpoint import save_ensemble
from robustkit.ensembles.ensemble import Ensemble
from robustkit.evaluation import pieces
from robustkit.pipeline.results import build as results_of
from robustkit.reports import _suites
from robustkit.reports._tables import find, tables


@pytest.fixture(scope="module")
def fitted(digits: Dataset) -> Ensemble:
    return linear(digits)


@pytest.fixture
def split(digits: Dataset) -> Split:
    return digits.split("test")


def measured(digits: Dataset, split: Split, ensemble: Ensemble, folder: Path, **more: Any) -> Any:
    facts = asked("calibration", digits, split, **more)
    study, store, warnings = carried_out("calibration", facts, digits, split, ensemble, folder)
    return suites.get("calibration").results(study, store), warnings


def logits_of(ensemble: Ensemble, split: Split) -> dict[str, np.ndarray]:
    with torch.no_grad():
        z = ensemble.member_logits(split.tensor())
    return {"ensemble": ensemble.fuse(z).numpy(), **{f"member-{at}": own.numpy() for at, own in enumerate(z)}}


def softmax(z: np.ndarray) -> np.ndarray:
    p = np.exp(z.astype(np.float64) - z.max(1, keepdims=True))
    return p / p.sum(1, keepdims=True)


def best(z: np.ndarray, y: np.ndarray) -> float:
    """Return the temperature that a bounded scalar search finds."""
    found = minimize_scalar(
        lambda t: log_loss(y, softmax(z / t), labels=range(10)), bounds=(0.05, 20), method="bounded",
        options={"xatol": 1e-7},
    )  # fmt: skip
    return float(found.x)


def test_fitted_on_the_validation_split_and_measured_on_the_test_split(
    fitted: Ensemble, digits: Dataset, split: Split, tmp_path: Path
):
    results, warnings = measured(digits, split, fitted, tmp_path)
    assert warnings == []
    assert [r["output"] for r in results] == ["ensemble", "member-0", "member-1", "member-2"]
    validation = digits.split("validation")
    known, z = logits_of(fitted, validation), logits_of(fitted, split)
    y = split.y.numpy()
    for r in results:
        own = z[r["output"]]
        assert (r["fitted_on"], r["fitted_n"], r["n"]) == ("validation", 200, 500)
        temperature = best(known[r["output"]], validation.y.numpy())
        assert r["temperature"] == pytest.approx(temperature, rel=1e-3)
        assert r["accuracy"] == pytest.approx((own.argmax(1) == y).mean())
        for quality, t in ((r["before"], 1.0), (r["after"], r["temperature"])):
            p = softmax(own / t)
            assert quality["nll"] == pytest.approx(log_loss(y, p, labels=range(10)), rel=1e-5)
            theirs = multiclass_calibration_error(torch.from_numpy(p), split.y, num_classes=10, n_bins=15)
            assert quality["ece"] == pytest.approx(float(theirs), abs=1e-4)
            hot = np.eye(10)[y]
            assert quality["brier"] == pytest.approx(((p - hot) ** 2).sum(1).mean(), rel=1e-5)
            assert sum(b["count"] for b in quality["bins"]) == 500
            shares = [b["count"] * b["accuracy"] for b in quality["bins"] if b["count"]]
            assert sum(shares) / 500 == pytest.approx(r["accuracy"])
    assert results[0]["after"]["nll"] < results[0]["before"]["nll"]
    json.dumps(results, allow_nan=False)


def test_without_unseen_data_one_half_is_fitted_on_and_the_other_measured(
    fitted: Ensemble, digits: Dataset, split: Split, tmp_path: Path
):
    results, _ = measured(digits, split, fitted, tmp_path, held_out=False)
    order = np.random.default_rng(0).permutation(500)
    z, y = logits_of(fitted, split)["ensemble"], split.y.numpy()
    fused = results[0]
    assert (fused["fitted_on"], fused["fitted_n"], fused["n"]) == ("half", 250, 250)
    assert fused["temperature"] == pytest.approx(best(z[order[:250]], y[order[:250]]), rel=1e-3)
    rest = order[250:]
    assert fused["before"]["nll"] == pytest.approx(log_loss(y[rest], softmax(z[rest]), labels=range(10)), rel=1e-5)
    with pytest.raises(UserError, match="there is only 1; evaluate more"):
        asked("calibration", digits, split.take(1), held_out=False)


def test_fewer_samples_than_bins_are_measured_with_a_warning(fitted: Ensemble, digits: Dataset, tmp_path: Path):
    results, warnings = measured(digits, digits.split("test").take(4), fitted, tmp_path)
    assert warnings == ["adp: 4 samples in 15 bins: the calibration error is mostly chance"]
    assert results[0]["before"]["ece"] > 0


def test_one_class_is_measured_with_a_warning(fitted: Ensemble, digits: Dataset, split: Split, tmp_path: Path):
    threes = split.select(torch.nonzero(split.y == 3)[:, 0])
    results, warnings = measured(digits, threes, fitted, tmp_path)
    assert warnings == ["adp: all samples are of one class (3): nothing is said of the others"]
    assert results[0]["after"]["nll"] > 0


class Oracle(torch.nn.Module):
    """Always right on what it was shown, or always wrong."""

    def __init__(self, splits: list[Split], shift: int = 0) -> None:
        super().__init__()
        self.known = {x.numpy().tobytes(): int(y) for s in splits for x, y in zip(s.tensor(), s.y, strict=True)}
        self.shift = shift

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        labels = [(self.known[one.numpy().tobytes()] + self.shift) % 10 for one in x]
        return torch.eye(10)[torch.tensor(labels)]


@pytest.mark.parametrize(("shift", "said"), [(0, "100.0 % right and ask for one below 0.01"), (1, "above 100")])
def test_samples_that_determine_no_temperature_give_none(
    shift: int, said: str, digits: Dataset, split: Split, tmp_path: Path
):
    oracle = Oracle([split, digits.split("validation")], shift)
    results, warnings = measured(digits, split, Ensemble([oracle], fusion="mean-prob").eval(), tmp_path)
    assert said in warnings[0]
    assert (results[0]["temperature"], results[0]["after"]) == (None, None)
    assert results[0]["before"]["nll"] == pytest.approx(np.log(np.e + 9) - (shift == 0), rel=1e-5)


class Nothing(torch.nn.Module):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return torch.full((len(x), 10), torch.nan)


def test_a_model_without_finite_output_has_no_numbers(digits: Dataset, split: Split, tmp_path: Path):
    broken = Ensemble([Nothing()], fusion="mean-prob").eval()
    results, warnings = measured(digits, split.take(20), broken, tmp_path)
    assert (results[0]["n"], results[0]["before"], results[0]["accuracy"]) == (0, None, None)
    assert warnings == ["adp: the output on 20 samples is not finite; they are left out"]


def test_what_is_stored_is_not_scored_again(
    fitted: Ensemble, digits: Dataset, split: Split, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    first, _ = measured(digits, split, fitted, tmp_path)
    monkeypatch.setattr(pieces, "attack", lambda *_, **__: pytest.fail("scored again"))
    assert measured(digits, split, fitted, tmp_path)[0] == first


def test_reports(fitted: Ensemble, digits: Dataset, split: Split, tmp_path: Path):
    facts = asked("calibration", digits, split)
    study, store, _ = carried_out("calibration", facts, digits, split, fitted, tmp_path)
    results = results_of(study, store)
    every = tables(results)
    table, fused = find(every, "calibration"), results["calibration"][0]
    assert len(table.rows) == len(table.records) == 4
    assert str(table.rows[0][4]) == f"{fused['before']['nll']:.4f}"
    assert str(table.rows[0][7]) == f"{100 * fused['after']['ece']:.2f}"
    assert "fitted on 200 samples of the validation split" in table.note
    assert table.records[0]["brier_after"] == fused["after"]["brier"]
    rows = find(every, "calibration-bins").rows
    assert sum(int(str(row[2])) for row in rows) == 500
    [drawing] = _suites.drawings(results)
    assert (drawing.name, drawing.png()[:4]) == ("calibration", b"\x89PNG")
    oracle = Ensemble([Oracle([split, digits.split("validation")])], fusion="mean-prob").eval()
    study, store, _ = carried_out("calibration", facts, digits, split, oracle, tmp_path / "oracle")
    without = results_of(study, store)  # no temperature: no numbers after it, and still a figure
    assert [str(cell) for cell in find(tables(without), "calibration").rows[0]][5::2] == ["-", "-", "-"]
    assert len(list(_suites.drawings(without))) == 1


def test_a_checkpoint_of_unknown_training_is_calibrated_on_halves(resnets: Ensemble, digits: Dataset, tmp_path: Path):
    """The whole way of both suites, from a checkpoint that says what it was trained on, and one that does not."""
    known = {"name": "digits", "sha256": digits.split("train").sha256()}
    found = {}
    for name, record in (("known", known), ("unknown", {})):
        save_ensemble(
            resnets, tmp_path / name, arch=["small-resnet"] * 3, classes=list(digits.classes), shape=digits.shape,
            data=record,
        )  # fmt: skip
        found[name] = api.evaluate(
            checkpoint=tmp_path / name, suites="ood,calibration", ood="far:noise", trust="off", n=100, speed="off",
            device="cpu", workers=1, out=tmp_path / f"{name}-out", formats=("md",),
        )  # fmt: skip
    fitted_on = {name: results["calibration"][0]["fitted_on"] for name, results in found.items()}
    assert fitted_on == {"known": "validation", "unknown": "half"}
    assert found["known"]["ood"][0]["sets"][0]["n"] == 100
    assert found["known"]["evaluations"] == []
    again = api.report(tmp_path / "known-out", formats=())
    assert again["ood"] == found["known"]["ood"]
    assert again["calibration"] == found["known"]["calibration"]
    assert (tmp_path / "known-out" / "tables" / "ood-sets.md").is_file()
