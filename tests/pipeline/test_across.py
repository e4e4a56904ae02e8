"""Several norms and several attacks: the union, its verdict and optimality, recomputed by hand; then a whole run."""

from __future__ import annotations

import csv
import json
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from in_process import invoke

from robustkit import api
from robustkit.base.errors import UserError
from robustkit.functional.stats import wilson
from robustkit.pipeline.results import build
from robustkit.pipeline.run import of_norms
from robustkit.records.cells import DatasetRecord, EnsembleRecord, Run, Spec
from robustkit.records.samples import CARRIED, HERE, Samples
from robustkit.records.store import Store
from robustkit.study import reference
from robustkit.study.plan import Study
from robustkit.study.reference import reference_for, reference_name

N, ELEMENTS = 4, 64
Y = np.array([0, 1, 2, 0])
RECORD = EnsembleRecord("adp", "key", "adp", {}, ("lenet",), 1, "mean-prob", "ab" * 32)
STUDY = Study(
    ensembles=(RECORD,), dataset=DatasetRecord("digits", "test", N, ("a", "b", "c"), "dd", (1, 8, 8)),
    attacks=(Spec("attack", "pgd", {"steps": 10}), Spec("attack", "fmn", {})), eps=(0.1, 0.2), norm="linf",
    transfer_eps=0.1, reference=False, version="9", trust="off", suites=("attacks",),
)  # fmt: skip
FOLDER = Path(__file__).parent / "store_of_0_1_0"


def samples(moved: dict[int, float], norm: str = "linf", carried: tuple[int, ...] = ()) -> Samples:
    """Samples, all right but those moved, each so far in the norm's own unit; every one took three passes and two."""
    said = Y.copy()
    said[list(moved)] = (Y[list(moved)] + 1) % 3
    fused = np.where(np.eye(3)[said] > 0, 0.0, -9.0).astype(np.float32)
    size = np.zeros(N, np.float32)
    size[list(moved)] = list(moved.values())
    flags = np.full(N, HERE)
    flags[list(carried)] = CARRIED
    sizes = {name: size if name == norm else np.zeros(N, np.float32) for name in ("l0", "l1", "l2", "linf")}
    return Samples(
        ids=np.arange(N), y=Y, target=np.full(N, -1), member_logits=fused[None], fused=fused, **sizes,
        forwards=np.full(N, 3), backwards=np.full(N, 2), seconds=np.zeros(N, np.float32), status=np.zeros(N, np.int64),
        carried=flags, history=np.zeros((0, 0), np.float32), examples=np.zeros((0,), np.float32),
    )  # fmt: skip


def built(folder: Path, study: Study, found: dict[tuple[str, str, float | None], Samples]) -> dict[str, Any]:
    """Results of a study, given what each attack did by name, norm and eps."""
    store = Store(folder)
    store.save(Run(study.clean(RECORD), samples({})))
    for cell in study.white_box(RECORD):
        store.save(Run(cell, found[cell.name, cell.norm, cell.eps]))
    return dict(build(study, store))


def test_optimality_is_the_area_an_attack_took_over_that_of_all(tmp_path: Path):
    results = built(tmp_path, STUDY, {
        ("pgd", "linf", 0.1): samples({}), ("pgd", "linf", 0.2): samples({1: 0.2}, carried=(3,)),
        ("fmn", "linf", None): samples({0: 0.05, 1: 0.3, 2: 0.25}),
    })  # fmt: skip
    rows = {one["attack"]: one for one in results["optimality"]}
    # The best distances are .05, .2 (pgd's), .25 and none, so that curves go up to .25, where fmn took .2 of .25 once.
    fmn = rows["fmn"]
    assert (fmn["eps"], fmn["up_to"], fmn["norm"]) == ([], pytest.approx(0.25), "linf")
    assert fmn["optimality"] == pytest.approx((0.2 / 4) / ((0.2 + 0.05) / 4), rel=1e-5)
    # At .1 the best has broken a quarter, at .2 a half; pgd nothing, then a quarter.
    pgd = rows["pgd"]
    assert (pgd["eps"], pgd["up_to"]) == ([0.1, 0.2], 0.2)
    assert pgd["optimality"] == pytest.approx(((0 + 0.25) / 2 * 0.1) / (0.25 / 2 * 0.1 + (0.25 + 0.5) / 2 * 0.1))
    assert (fmn["forwards"], fmn["backwards"]) == (3, 2)
    assert (pgd["forwards"], pgd["backwards"]) == (7 * 3 / 4, 7 * 2 / 4)  # what was carried was paid for below


def test_the_best_attack_has_an_optimality_of_one_and_one_alone_has_none(tmp_path: Path):
    best = {("pgd", "linf", 0.1): samples({0: 0.1}), ("pgd", "linf", 0.2): samples({0: 0.1, 1: 0.2})}
    results = built(tmp_path / "two", STUDY, {**best, ("fmn", "linf", None): samples({})})
    assert {one["attack"]: one["optimality"] for one in results["optimality"]} == {"pgd": 1.0, "fmn": 0.0}
    alone = replace(STUDY, attacks=STUDY.attacks[:1])
    assert "optimality" not in built(tmp_path / "one", alone, best)
    nothing = {key: samples({}) for key in best}
    assert "optimality" not in built(tmp_path / "none", STUDY, {**nothing, ("fmn", "linf", None): samples({})})


def test_an_attack_that_crashed_has_broken_its_sample_at_once(tmp_path: Path):
    failed = samples({})
    failed.status[3] = 1
    found = {("pgd", "linf", 0.1): samples({}), ("pgd", "linf", 0.2): samples({}), ("fmn", "linf", None): failed}
    (row,) = [one for one in built(tmp_path, STUDY, found).get("optimality", []) if one["attack"] == "pgd"]
    assert row["optimality"] == 0.0


SEVERAL = replace(STUDY, more_norms={"l2": (0.5, 1.0), "l0": (10.0,)})
RUNS = {
    ("pgd", "linf", 0.1): samples({}), ("pgd", "linf", 0.2): samples({0: 0.2}),
    ("pgd", "l2", 0.5): samples({}, "l2"), ("pgd", "l2", 1.0): samples({1: 1.0}, "l2"),
    ("fmn", "linf", None): samples({}), ("fmn", "l2", None): samples({1: 0.5}, "l2"),
    ("fmn", "l0", None): samples({2: 10 / ELEMENTS, 3: 11 / ELEMENTS}, "l0"),
}  # fmt: skip


def test_a_union_counts_who_withstands_every_norm(tmp_path: Path):
    results = built(tmp_path, SEVERAL, RUNS)
    assert [(u["budgets"], u["robust_accuracy"]) for u in results["union"]] == [
        ({"linf": 0.1, "l2": 0.5, "l0": 10.0}, 2 / 4),  # fmn breaks 1 at .5 and 2 with 10 values
        ({"linf": 0.2, "l2": 1.0, "l0": 10.0}, 1 / 4),
    ]
    assert results["union"][0]["ci95"] == list(wilson(2, 4))
    worst = {(w["norm"], w["eps"]): w["robust_accuracy"] for w in results["worst_case"]}
    assert worst == {
        ("l0", 10.0): 3 / 4, ("l2", 0.5): 3 / 4, ("l2", 1.0): 3 / 4, ("linf", 0.1): 1.0, ("linf", 0.2): 3 / 4,
    }  # fmt: skip
    (curve,) = [m for m in results["minimum_norm"] if m["norm"] == "l0"]
    assert curve["eps"] == [0.0, 10.0, 11.0]  # values, not shares


def test_a_union_is_no_better_than_its_worst_rated_part(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    from robustkit.trust._escalate import Known

    rated = {"linf": "trusted", "l2": "suspect", "l0": "unchecked"}
    monkeypatch.setattr(Known, "judged", lambda self, worst: (rated[worst.norm], []))
    assert {u["verdict"] for u in built(tmp_path, SEVERAL, RUNS)["union"]} == {"suspect"}


def test_the_plan_runs_each_attack_where_it_works():
    study = replace(SEVERAL, attacks=(*STUDY.attacks, Spec("attack", "ead", {})), reference=True)
    cells = [(cell.name, cell.norm, cell.eps) for cell in study.white_box(RECORD)]
    assert cells == [
        ("pgd", "linf", 0.1), ("pgd", "linf", 0.2), ("fmn", "linf", None), ("ead", "l1", None),
        ("quorum", "linf", 0.1), ("quorum", "linf", 0.2),
        ("pgd", "l2", 0.5), ("pgd", "l2", 1.0), ("fmn", "l2", None), ("quorum", "l2", 0.5), ("quorum", "l2", 1.0),
        ("fmn", "l0", None), (reference_name("l0"), "l0", None),
    ]  # fmt: skip
    assert reference_for("mean-prob", 1, "l0").params["steps"] == 500
    assert [(norm, spec.name) for norm, spec in study.transferred()] == [("linf", "pgd"), ("l2", "pgd")]
    assert [cell.eps for cell in study.transfer(RECORD, study.attacks[0], False, "l2")] == [1.0, 1.0]
    assert Study.from_json(json.loads(json.dumps(study.to_json()))) == study
    assert "more_norms" not in STUDY.to_json()
    assert not STUDY.unions()


def test_a_reference_that_was_asked_for_runs_once():
    study = replace(STUDY, norm="l1", eps=(3.0,), attacks=(reference_for("mean-prob", 1, "l1"),), reference=True)
    assert [(cell.name, cell.params["steps"]) for cell in study.white_box(RECORD)] == [(reference_name("l1"), 500)]


def test_what_a_norm_lacks_is_said():
    asked = replace(SEVERAL, suites=("attacks", "transfer"))
    assert of_norms(asked, escalating=True) == [
        "l0: no attack with a budget runs, so that there is no transfer matrix.",
        "l0: nothing follows on a suspect worst case; --escalate works in linf and l2.",
    ]
    assert not of_norms(STUDY, escalating=True)


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with a small trained ensemble, which is the current one; the sparse references are short."""
    monkeypatch.setattr(reference, "SPARSE_STEPS", 50)
    shutil.copytree(FOLDER / "ensemble", tmp_path / "ensemble")
    shutil.copy(FOLDER / "net.py", tmp_path)
    monkeypatch.chdir(tmp_path)
    return tmp_path


COMMAND = (
    "evaluate", "--checkpoint", "ensemble", "--arch", "net.py:net", "--n", "12", "--speed", "off", "--out", "out",
)  # fmt: skip


def test_four_norms_in_one_evaluation(here: Path):
    code, printed, error = invoke(
        *COMMAND, "--norms", "linf,l2,l1,l0", "--eps", "linf=0.02,0.04,l2=0.1,0.2,l1=0.4,l0=1", "--attacks", "pgd,fmn",
        "--set", "fmn.steps=20", "--suites", "attacks,transfer", "--format", "html,csv",
        "--min", "union>=0", "--min", "worst_case@0.4 l1>=0",
    )  # fmt: skip
    assert code == 0, error
    assert "Robust to all of 0.04 linf and 0.2 l2 and 0.4 l1 and 1 l0: ensemble" in " ".join(printed.split())
    assert "l1, l0: no attack with a budget runs" not in printed  # in alphabetical order
    assert "l0, l1: no attack with a budget runs, so that there is no transfer matrix" in " ".join(printed.split())
    results = json.loads((here / "out" / "results.json").read_text())
    worst = {(w["norm"], w["eps"]): w for w in results["worst_case"]}
    assert list(worst) == [("l0", 1.0), ("l1", 0.4), ("l2", 0.1), ("l2", 0.2), ("linf", 0.02), ("linf", 0.04)]
    assert worst["l1", 0.4]["verdict"] == worst["l0", 1.0]["verdict"] == "unchecked"
    first, last = results["union"]
    for united, parts in ((first, [("linf", 0.02), ("l2", 0.1)]), (last, [("linf", 0.04), ("l2", 0.2)])):
        every = [worst[part] for part in (*parts, ("l1", 0.4), ("l0", 1.0))]
        assert 0 < united["robust_accuracy"] <= min(w["robust_accuracy"] for w in every)
        order = ["trusted", "unchecked", "suspect", "invalid"]
        assert united["verdict"] == max((w["verdict"] for w in every), key=order.index)
    with (here / "out" / "samples.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert np.mean([float(row["robust_to_all"]) for row in rows]) == pytest.approx(last["robust_accuracy"])
    assert {"smallest_eps_l0", "broken_by_l1"} <= set(rows[0])
    assert {one["norm"] for one in results["optimality"]} == {"l0", "l1", "l2", "linf"}
    assert all(0 <= one["optimality"] <= 1 for one in results["optimality"])
    page = (here / "out" / "report.html").read_text()
    assert "Robust to all norms" in page
    assert "Optimality of the attacks" in page
    code, printed, error = invoke("check", "out", "--min", "ensemble:union>=0.99")
    assert code == 1, printed
    assert "union of 0.02 linf and 0.1 l2 and 0.4 l1 and 1 l0 is" in printed + error
    # Asked again, nothing is run again and the same is said.
    before = {path: path.stat().st_mtime_ns for path in (here / "out" / "runs").glob("*.npz")}
    again = api.report("out", formats="csv")
    assert again is not None
    assert before == {path: path.stat().st_mtime_ns for path in (here / "out" / "runs").glob("*.npz")}


def test_l0_alone_is_a_norm_like_any_other(here: Path):
    code, printed, error = invoke(*COMMAND, "--norm", "l0", "--eps", "2,6", "--suites", "attacks")
    assert code == 0, error
    results = json.loads((here / "out" / "results.json").read_text())
    assert [(w["norm"], w["eps"]) for w in results["worst_case"]] == [("l0", 2.0), ("l0", 6.0)]
    assert {e["attack"] for e in results["evaluations"]} == {"fmn", reference_name("l0")}
    accuracy = [w["robust_accuracy"] for w in results["worst_case"]]
    assert accuracy[0] >= accuracy[1]
    assert "against the worst of all attacks at eps 6 l0" in " ".join(printed.split()) or "eps 2 l0" in printed
    for e in results["evaluations"]:
        assert e["mean_l0"] is None or e["mean_l0"] * 64 <= e["eps"] + 1e-6 or e["robust_accuracy"] < 1


@pytest.mark.parametrize(
    ("given", "said"),
    [
        (["--norm", "l0", "--eps", "2.5"], "eps 2.5 is no whole number"),
        (["--norm", "l0", "--eps", "65"], "eps 65 is more than the 64 values of an image"),
        (["--norm", "l1", "--eps", "8/255"], "leaves an image as it is in l1"),
        (["--norm", "l1"], "no standard budgets for norm 'l1'"),
        (["--norm", "l1", "--eps", "5", "--attacks", "pgd"], "attack 'pgd' has no norm 'l1'; it supports linf, l2"),
        (["--norms", "linf,l0", "--eps", "l0=5", "--attacks", "pgd"], "none of the attacks (pgd) works in l0; add"),
        (["--norms", "linf,l2", "--eps", "0.1"], "does not say of which norm"),
        (["--norms", "linf,l2", "--norm", "l2"], "--norms linf,l2 has no effect beside --norm"),
        (["--norms", "linf,l2", "--eps", "linf=0.1,0.2,0.3,l2=1,2"], "different numbers of them"),
        (["--norms", "linf,l2", "--eps", "l2=1", "--preset", "adp-table2:mnist"], "is a grid of one norm"),
        (["--norms", "linf,l2", "--eps", "linf=0.1,l2=1", "--min", "union@1>=0.1"], "no eps; leave @1 out"),
        (["--min", "union>=0.1"], "unknown number in --min 'union'"),
    ],
)
def test_what_cannot_be_is_refused_before_any_work(here: Path, given: list[str], said: str):
    code, printed, error = invoke(*COMMAND, *given)
    assert (code, said in error) == (2, True), printed + error
    assert not (here / "out" / "runs").exists()


def test_the_same_in_python():
    with pytest.raises(UserError, match="eps 2.5 is no whole number"):
        api.evaluate(dataset="digits", norm="l0", eps=2.5)
