"""Detection: records by hand, runs on real images against an independent reckoning, and what it looks like."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from suite_models import data_of, job_of

from robustkit import data
from robustkit.data import Split
from robustkit.ensembles.ensemble import Ensemble
from robustkit.evaluation import pieces
from robustkit.evaluation.cell import RunOptions, run_cell
from robustkit.pipeline.results import build
from robustkit.records.cells import Cell, DatasetRecord, EnsembleRecord, Run, Spec
from robustkit.records.samples import ERROR, NOT_ATTACKED, Samples
from robustkit.records.store import Store
from robustkit.reports import _suite_detection as looks
from robustkit.reports._tables import find, tables
from robustkit.study.plan import Study
from robustkit.suites import SuiteRequest, detection
from robustkit.suites._detection_rows import rows, worst
from robustkit.suites._ladder import Attacked, cells, rungs

CPU = RunOptions(torch.device("cpu"), workers=1, speed="off")
FAST = {"steps": 12, "search_steps": 1}


def samples(fused: Any, status: Any = 0, members: int = 1) -> Samples:
    """Of two classes, all of class 0, from the probability of class 0."""
    p = np.asarray(fused, np.float32)
    z, n = np.log(np.stack([p, 1 - p], 1)), len(p)
    zeros = np.zeros(n, np.int64)
    return Samples(
        ids=np.arange(n), y=zeros, target=zeros - 1, member_logits=np.stack([z] * members), fused=z, l0=zeros, l1=zeros,
        l2=zeros, linf=zeros, forwards=zeros, backwards=zeros, seconds=zeros, status=zeros + status, carried=zeros,
        history=np.zeros((0, 0), np.float32), examples=np.zeros((0,), np.float32),
    )  # fmt: skip


def record(members: int = 3, name: str = "adp") -> EnsembleRecord:
    return EnsembleRecord(name, f"key-{name}", name, {}, ("linear",), members, "mean-prob", "ab" * 32)


def by(found: Any, score: str, **more: Any) -> Any:
    request = {"labels": "predicted", "adaptive": False, "score": score, **more}
    (row,) = [row for row in found if all(row[key] == value for key, value in request.items())]
    return row


PGD = Cell("transfer", "key", "data", Spec("attack", "pgd", {"steps": 10}), 0.2, "linf")


def test_four_samples_by_hand():
    """Normal images have a maximum probability of 0.9, 0.8, 0.7 and, misclassified, 0.6.

    The attack makes two of the three that were right wrong, at 0.75 and 0.95 for the wrong class: of eight pairs,
    normal is higher in 0.9 and 0.8 against 0.75. It passes at the threshold 0.6, which keeps all four.
    """
    clean = samples([0.9, 0.8, 0.7, 0.4])
    attacked = samples([0.25, 0.05, 0.9, 0.3])
    made = Attacked(PGD.attack, PGD, attacked, np.array([True, True, True, False]))
    informed = Run(replace(PGD, attack=Spec("attack", "adaptive-pgd", {"score": "msp"})), samples([0.1, 0.4]))
    found = list(rows(record(1), made, clean, {"msp": informed}))
    row = by(found, "msp")
    assert row["auroc"] == pytest.approx(2 / 8)
    assert (row["n_normal"], row["n_adversarial"], row["n_attacked"]) == (4, 2, 3)
    assert (row["broken"], row["fpr95"], row["evaded"]) == pytest.approx((2 / 3, 1.0, 2 / 3))
    # He submits 0.9 for the first, and for the second what the other attack had made: 0.95, not 0.6.
    known = by(found, "msp", adaptive=True)
    assert known["auroc"] == pytest.approx((0.5 + 0) / 8)
    assert (known["n_attacked"], known["broken"], known["evaded"]) == (2, 1.0, 1.0)
    assert known["params"]["score"] == "msp"
    assert {r["score"] for r in found} == {"msp", "mal", "min-max-logit", "energy", "entropy"}


def test_evaded_is_what_passes_among_all_that_were_attacked():
    """Twenty normal images from 0.70 to 0.89: 19 of them are at or above 0.71, which lets two of three pass."""
    clean = samples(0.70 + 0.01 * np.arange(20))
    attacked = samples([0.295, 0.2, 0.1, *[0.9] * 17])
    row = by(rows(record(1), Attacked(PGD.attack, PGD, attacked, np.ones(20, bool)), clean, {}), "msp")
    assert (row["broken"], row["fpr95"], row["evaded"]) == pytest.approx((3 / 20, 2 / 3, 2 / 20))


def test_an_attack_that_breaks_nothing_has_no_area():
    clean = samples([0.9, 0.8, 0.7, 0.4], members=2)
    informed = {"msp": Run(PGD, clean)}
    found = list(rows(record(2), Attacked(PGD.attack, PGD, clean, np.array([True] * 3 + [False])), clean, informed))
    assert len(found) == 10
    assert all(row["auroc"] is row["fpr95"] is row["evaded"] is None for row in found)
    assert all(row["broken"] == row["n_adversarial"] == 0 for row in found)
    assert all(row["auroc"] is None for row in worst(found))


@pytest.mark.filterwarnings("error")
def test_logits_that_are_not_finite_count_neither_way():
    clean, attacked = (samples(p, members=2) for p in ([0.9, 0.8, 0.7, 0.6], [0.2, 0.3, 0.9, 0.4]))
    for one, row in ((clean, 0), (attacked, 1)):
        one.member_logits[:, row], one.fused[row], one.status[row] = np.nan, np.nan, ERROR
    attacked.status[3] = NOT_ATTACKED
    right = np.array([False, True, True, True])
    found = list(rows(record(2), Attacked(PGD.attack, PGD, attacked, right), clean, {}))
    assert all((row["n_normal"], row["n_adversarial"]) == (3, 0) for row in found)


def test_the_worst_is_the_lowest_area():
    clean = samples([0.9, 0.8, 0.7, 0.6])
    pgd = Attacked(PGD.attack, PGD, samples([0.45, 0.45, 0.9, 0.9]), np.ones(4, bool))
    mim_cell = replace(PGD, attack=Spec("attack", "mim", {}), eps=0.4)
    mim = Attacked(mim_cell.attack, mim_cell, samples([0.05, 0.25, 0.9, 0.9]), np.ones(4, bool))
    found = list(worst([*rows(record(1), pgd, clean, {}), *rows(record(1), mim, clean, {})]))
    row = by(found, "msp")
    assert (row["attack"], row["of"], row["eps"]) == ("worst", "mim", 0.4)
    assert row["auroc"] == pytest.approx(2 / 8)  # 0.95 is above all normal images, 0.75 below 0.9 and 0.8
    assert len(found) == 5


def test_the_ladder():
    assert rungs(0.05, "linf") == pytest.approx((0.05, 0.1, 0.2, 0.4))
    assert rungs(0.15, "linf") == pytest.approx((0.15, 0.3, 0.4))
    assert rungs(0.5, "linf") == (0.5,)
    assert rungs(0.5, "l2") == (0.5, 1.0, 2.0, 4.0)
    assert rungs(0.0, "linf") == (0.0,)


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


def study_of(split: Split, digits: data.Dataset, attacks: tuple[str, ...] = ("pgd", "mim"), **changed: Any) -> Study:
    asked = detection.Detection.ask(SuiteRequest({}, data_of(digits, split)))
    given: dict[str, Any] = {
        "ensembles": (record(),), "norm": "linf", "eps": (0.05,), "transfer_eps": 0.05, "suites": ("detection",),
        "trust": "off", **changed,
    }  # fmt: skip
    return Study(
        dataset=DatasetRecord("digits", "test", len(split), tuple("0123456789"), split.sha256(), split.shape),
        attacks=tuple(Spec("attack", name, {"steps": 10} if name != "cw" else {}) for name in attacks),
        version="1", suite_requests={"detection": asked}, **given,
    )  # fmt: skip


def carried_out(
    study: Study, ensemble: Ensemble, split: Split, digits: data.Dataset, folder: Path
) -> tuple[Store, list[str]]:
    store, models = Store(folder), {one.key: ensemble for one in study.ensembles}
    for one in study.ensembles:
        if study.clean(one) not in store:
            store.save(run_cell(study.clean(one), ensemble, split, None, CPU))
    return store, detection.Detection.run(job_of(study, "detection", models, data_of(digits, split), store))


@pytest.fixture(scope="module", autouse=True)
def _short() -> Any:
    """Fewer steps, and fewer images than the study has, so that each part is another set."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(detection, "SETTINGS", FAST)
        patch.setattr(detection, "IMAGES", 50)
        patch.setattr(detection, "ADAPTIVE_IMAGES", 30)
        yield


@pytest.fixture(scope="module")
def done(fitted: Ensemble, digits: data.Dataset, tmp_path_factory: pytest.TempPathFactory) -> Any:
    split = digits.split("test").take(60)
    study = study_of(split, digits)
    store, warnings = carried_out(study, fitted, split, digits, tmp_path_factory.mktemp("detection"))
    assert warnings == []
    return study, store, detection.Detection.results(study, store), split


def test_numbers_are_those_of_counting_pairs(done: Any):
    study, store, found, _ = done
    clean = store.get(study.clean(study.ensembles[0])).samples.select(slice(0, 50))
    right = clean.prediction == clean.y
    data_of = study.suite_requests["detection"]["images"]["sha256"]
    for spec in study.attacks:
        row = next(r for r in found if (r["attack"], r["score"], r["adaptive"]) == (spec.name, "msp", False))
        tried = [c for c in cells(study, study.ensembles[0], spec, data_of) if c in store]
        assert [cell.eps for cell in tried] == pytest.approx(list(rungs(0.05, "linf"))[: len(tried)])
        shares = []
        for cell in tried:
            made = store.get(cell).samples
            adversarial = right & (made.prediction != made.y)
            shares.append(adversarial.sum() / right.sum())
        assert row["eps"] == tried[-1].eps
        assert row["broken"] == pytest.approx(shares[-1])
        assert (np.array(shares[:-1]) < 0.95).all()
        assert shares[-1] >= 0.95
        normal, other = np.exp(clean.fused).max(1), np.exp(made.fused).max(1)[adversarial]
        wins = (normal[:, None] > other).mean() + 0.5 * (normal[:, None] == other).mean()
        assert row["auroc"] == pytest.approx(wins, abs=1e-4)
        assert row["ci95"][0] <= row["auroc"] <= row["ci95"][1]
        threshold = np.sort(normal)[2]  # 48 of 50 are at or above it, 49 would be more than 95 % asks for
        assert row["evaded"] == pytest.approx((other >= threshold).sum() / right.sum())


def test_who_knows_the_detector_is_harder_to_detect(done: Any):
    _, _, found, _ = done
    for attack in ("pgd", "mim", "worst"):
        rows_of = [row for row in found if row["attack"] == attack]
        for score in ("log-ed", "msp", "energy"):
            plain, known = by(rows_of, score), by(rows_of, score, adaptive=True)
            assert known["eps"] == plain["eps"] or attack == "worst"
            assert known["n_attacked"] < plain["n_attacked"] <= 50
            assert known["auroc"] < plain["auroc"]
            assert known["evaded"] >= plain["evaded"]
            assert known["params"]["score"] == score
    true = by(found, "log-ed", labels="true", attack="pgd")
    assert not any(row["adaptive"] for row in found if row["labels"] == "true")
    assert true["auroc"] != by(found, "log-ed", attack="pgd")["auroc"]


def test_what_is_stored_is_not_made_again(done: Any, fitted: Ensemble, digits: data.Dataset, monkeypatch: Any):
    study, store, found, split = done
    monkeypatch.setattr(pieces, "attack", lambda *_, **__: pytest.fail("ran again"))
    assert carried_out(study, fitted, split, digits, store.folder)[1] == []
    assert detection.Detection.results(Study.from_json(study.to_json()), store) == found


def test_the_transfer_suite_shares_its_cells(digits: data.Dataset):
    split = digits.split("test").take(40)  # not more than are attacked: then it is the study's own set
    study = study_of(split, digits)
    shared = {cell.key for spec in study.attacks for cell in study.transfer(study.ensembles[0], spec, False)}
    data_of = study.suite_requests["detection"]["images"]["sha256"]
    first = [next(cells(study, study.ensembles[0], spec, data_of)).key for spec in study.attacks]
    assert set(first) <= shared


def test_a_single_model_has_the_scores_that_need_no_members(fitted: Ensemble, digits: data.Dataset, tmp_path: Path):
    split, alone = digits.split("test").take(40), Ensemble(list(fitted.members)[:1]).eval()
    study = study_of(split, digits, ("pgd",), ensembles=(record(1),))
    store, _ = carried_out(study, alone, split, digits, tmp_path)
    built = build(study, store)
    found = built["detection"]
    assert {row["score"] for row in found} == {"msp", "mal", "min-max-logit", "energy", "entropy"}
    assert {row["score"] for row in found if row["adaptive"]} == {"msp", "energy"}
    assert "worst" not in {row["attack"] for row in found}  # there is one attack
    note = find(tables(built), "detection").note
    assert "adp has one member" in note
    assert "these work: msp, mal, min-max-logit, energy, entropy" in note


def test_no_budget_breaks_nothing_and_no_attack_with_a_budget_is_said(
    fitted: Ensemble, digits: data.Dataset, tmp_path: Path
):
    split = digits.split("test").take(30)
    study = study_of(split, digits, ("pgd",), transfer_eps=0.0)
    built = build(study, carried_out(study, fitted, split, digits, tmp_path)[0])
    assert all(row["auroc"] is None and row["broken"] == 0 for row in built["detection"])
    assert list(looks.drawings(built)) == []
    assert str(find(tables(built), "detection").rows[0][3]) == "-"
    study = study_of(split, digits, ("cw", "adaptive-pgd"))
    store, (warning,) = carried_out(study, fitted, split, digits, tmp_path)
    assert warning.startswith("adp: no attack has a budget")
    assert detection.Detection.results(study, store) == []


def test_another_norm(fitted: Ensemble, digits: data.Dataset, tmp_path: Path):
    split = digits.split("test").take(30)
    study = study_of(split, digits, ("pgd",), norm="l2", transfer_eps=0.5)
    store, _ = carried_out(study, fitted, split, digits, tmp_path)
    found = detection.Detection.results(study, store)
    plain, known = (by(found, "msp", adaptive=kind) for kind in (False, True))
    assert plain["norm"] == known["norm"] == "l2"
    assert plain["eps"] in rungs(0.5, "l2")
    assert known["auroc"] < plain["auroc"]
    (cell,) = [c for c in store.cells() if c.name == "adaptive-pgd" and c.params["score"] == "msp"]
    assert 0.9 * cell.eps < store.get(cell).samples.l2.max() <= cell.eps + 1e-5


def test_two_worst_attacks_are_both_named(done: Any):
    study, store, _, _ = done
    results = build(study, store)
    known = by(results["detection"], "msp", attack="worst", adaptive=True)
    plain = by(results["detection"], "msp", attack="worst")
    known["of"], known["eps"], plain["of"], plain["eps"] = "mim", 0.4, "pgd", 0.2
    row = next(row for row in find(tables(results), "detection").rows if str(row[2]) == "msp")
    assert str(row[1]) == "pgd, eps 0.2 / mim, eps 0.4"


def test_tables_and_figures(done: Any):
    study, store, found, _ = done
    results = build(study, store)
    first, details = (find(tables(results), name) for name in ("detection", "detection-attacks"))
    assert len(first.rows) == 9  # eight scores and log ED on true labels
    assert len(details.rows) == 18
    assert len(first.records) == len(found)
    assert "fpr" not in first.records[0]
    row = next(row for row in first.rows if str(row[2]) == "msp")
    plain, known = (by(found, "msp", attack="worst", adaptive=kind) for kind in (False, True))
    assert str(row[1]).startswith(plain["of"])
    assert str(row[3]).startswith(f"{plain['auroc']:.3f} [")
    assert str(row[4]).startswith(f"{known['auroc']:.3f} [")
    assert str(row[6]) == f"{100 * plain['evaded']:.1f} / {100 * known['evaded']:.1f}"
    (drawing,) = looks.drawings(results)
    assert [len(axes.lines) for axes in drawing.figure.axes] == [4, 4]
    assert drawing.svg()
