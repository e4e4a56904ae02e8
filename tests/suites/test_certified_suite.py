"""The suites certified and smoothing, end to end and on bad input."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from suite_models import CPU, data_of, job_of, linear

import robustkit
from robustkit import suites
from robustkit.base.errors import UserError
from robustkit.data import Dataset
from robustkit.ensembles.ensemble import Ensemble
from robustkit.evaluation.cell import run_cell
from robustkit.pipeline.ceilings import with_ceilings
from robustkit.records.cells import DatasetRecord, EnsembleRecord
from robustkit.records.outcomes import SampleOutcomes
from robustkit.records.store import Store
from robustkit.reports import _suite_certified
from robustkit.study.plan import Study
from robustkit.suites import SuiteRequest
from robustkit.suites._certified_cells import floors
from robustkit.suites._certifying import certifiable

NET = f"{Path(__file__).parents[1] / 'networks.py'}:perceptron"
N, EPS = 25, (0.02, 0.1)


def named(**more: object) -> dict[str, object]:
    return {"certify_n": N, "sigma": 0.25, "smoothing_draws": 40, "eps": EPS, "norm": "linf",
            "fusions": {"linear": "mean-logit"}, **more}  # fmt: skip


@pytest.fixture
def done(digits: Dataset, tmp_path: Path) -> tuple[Study, Store, Ensemble]:
    split = digits.split("test").take(40)
    ensemble = Ensemble(linear(digits).members, "mean-logit").eval()
    asked = {
        name: suites.get(name).ask(SuiteRequest(named(), data_of(digits, split))) for name in ("certified", "smoothing")
    }
    study = Study(
        ensembles=(EnsembleRecord("linear", "key", "linear", {}, ("linear",), 3, "mean-logit", "ab" * 32),),
        dataset=DatasetRecord("digits", "test", 40, tuple("0123456789"), split.sha256(), split.shape),
        attacks=(), eps=EPS, norm="linf", transfer_eps=0.1, suites=tuple(asked), version="1", suite_requests=asked,
    )  # fmt: skip
    store = Store(tmp_path)
    store.save(run_cell(study.clean(study.ensembles[0]), ensemble, split, None, CPU))
    for name in asked:
        job = job_of(study, name, {"key": ensemble}, data_of(digits, split), store)
        assert suites.get(name).run(job) == []
    return study, store, ensemble


def test_the_floor_of_a_linear_ensemble_is_its_closed_form(
    done: tuple[Study, Store, Ensemble], digits: Dataset
):  # fmt: skip
    study, store, ensemble = done
    split = digits.split("test").take(N)
    x, y = split.tensor().flatten(1).double(), split.y
    weight = torch.stack([member[1].weight.double() for member in ensemble.members]).mean(0)
    for eps, row in zip(EPS, suites.get("certified").results(study, store), strict=True):
        low, high = (x - eps).clamp_min(0), (x + eps).clamp_max(1)
        own = weight[y][:, None] - weight[None]  # (N, L, pixels)
        least = (own.clamp_min(0) * low[:, None] + own.clamp_max(0) * high[:, None]).sum(-1)
        exact = (least.scatter(1, y[:, None], torch.inf) > 1e-5).all(1).double()
        assert 0 < float(exact.mean()) < 1 or eps == EPS[0]
        np.testing.assert_array_equal(floors(study, store, study.ensembles[0], eps), exact.numpy())
        assert row["floor"] == pytest.approx(float(exact.mean()))
        assert row["n"] == N


def test_floor_and_ceiling_stand_together(done: tuple[Study, Store, Ensemble]):
    study, store, _ = done
    rows = suites.get("certified").results(study, store)
    floor = floors(study, store, study.ensembles[0], EPS[1])
    left = np.concatenate([floor, np.zeros(40 - N)])
    outcomes = SampleOutcomes("linear", np.arange(40), np.zeros(40, int), np.zeros(40, int), np.ones(40), [])
    open_ = np.flatnonzero(floor == 0)
    assert len(open_) > 2

    def beside(worst: np.ndarray) -> dict[str, object]:
        outcomes.__dict__["worst"] = {("linf", EPS[1]): worst}
        return dict(with_ceilings(study, store, rows, {"linear": outcomes})[1])

    equal = beside(left)
    assert (equal["proven"], equal["contradicted"], equal["unsettled"]) == (True, 0, pytest.approx(0))
    assert _suite_certified.verdict(equal) == "proven"
    higher = left.copy()
    higher[open_[:2]] = 1
    found = beside(higher)
    assert (found["proven"], found["ceiling"]) == (False, pytest.approx(floor.mean() + 2 / N))
    assert "<= truth <=" in _suite_certified.sentence(found)
    assert "neither settles 8.0 %" in _suite_certified.sentence(found)
    lower = left.copy()
    lower[np.flatnonzero(floor)[:1]] = 0
    wrong = beside(lower)
    assert (wrong["proven"], wrong["contradicted"]) == (False, 1)
    assert "1 samples are certified and were broken" in wrong["notes"][-1]


def test_smoothing_counts_what_abstains(done: tuple[Study, Store, Ensemble]):
    study, store, _ = done
    (row,) = suites.get("smoothing").results(study, store)
    assert row["eps"] == [0.0, 0.125, 0.25, 0.375, 0.5]
    assert row["accuracy"] == sorted(row["accuracy"], reverse=True)
    assert row["accuracy"][0] <= 1 - row["abstained"] / N
    assert 0 < row["accuracy"][1] < 1


@pytest.mark.parametrize(
    ("suite", "more", "said"),
    [
        ("smoothing", {"sigma": 0.0}, "sigma 0 is out of range; the noise of smoothing must be above 0"),
        ("certified", {"norm": "l0"}, "norm 'l0' has no certified bounds"),
        ("certified", {"fusions": {"mine": "crossmax"}}, "'mine': fusion rule 'crossmax' has no certified bounds"),
    ],
)
def test_bad_requests_are_refused(suite: str, more: dict[str, object], said: str, digits: Dataset):
    with pytest.raises(UserError, match=said):
        suites.get(suite).ask(SuiteRequest(named(**more), data_of(digits, digits.split("test").take(10))))


def test_an_ensemble_without_bounds_is_named(digits: Dataset):
    net = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(64, 10), torch.nn.GELU())
    with pytest.raises(
        UserError, match="'mine': member 0 cannot be certified: the operation '.*gelu' has no bound here"
    ):
        certifiable({"mine": Ensemble([net.eval()])}, digits.split("test"))


def test_floors_of_an_evaluation_are_below_its_ceilings(tmp_path: Path):
    results = robustkit.evaluate(
        defense="baseline", arch=NET, members=2, epochs=3, n=24, eps="0.02,0.1", attacks="fgsm", trust="off",
        suites="attacks,certified,smoothing", certify_n=16, smoothing_draws=20, out=tmp_path, formats=("md", "html"),
    )  # fmt: skip
    rows = results["certified"]
    assert [row["eps"] for row in rows] == [0.02, 0.1]
    assert all(row["contradicted"] == 0 and row["floor"] <= row["ceiling"] <= row["clean_accuracy"] for row in rows)
    assert rows[0]["floor"] > rows[1]["floor"]
    assert results["smoothing"][0]["draws"] == 20
    stored = json.loads((tmp_path / "results.json").read_text())
    assert stored["certified"] == rows
    assert "Certified floors and attacked ceilings" in (tmp_path / "report.html").read_text()
    assert "<= truth <=" in (tmp_path / "report.html").read_text().replace("&lt;", "<")
