"""results.json: every number recomputed by hand from hand-made runs."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from robustkit.base.errors import RunError
from robustkit.functional.stats import wilson
from robustkit.pipeline.results import build
from robustkit.records.cells import Cell, DatasetRecord, EnsembleRecord, Run, Spec
from robustkit.records.samples import ERROR, NOT_ATTACKED, OK, Samples
from robustkit.records.store import Store
from robustkit.reports.json_file import json_file
from robustkit.study.plan import Study

N, MEMBERS = 8, 2
Y = np.array([0, 1, 2, 0, 1, 2, 0, 1])
RECORD = EnsembleRecord("adp", "key", "adp", {"alpha": 2.0}, ("lenet", "resnet20"), MEMBERS, "mean-prob", "ab" * 32)
STUDY = Study(
    ensembles=(RECORD,), dataset=DatasetRecord("digits", "test", N, ("a", "b", "c"), "dd"),
    attacks=(Spec("attack", "pgd", {"steps": 10}), Spec("attack", "fgsm", {})), eps=(0.1, 0.2), norm="linf",
    transfer_eps=0.1, reference=False, seed=5, version="9", trust="off",
)  # fmt: skip


def onehot(labels: np.ndarray) -> np.ndarray:
    return np.where(np.eye(3)[labels] > 0, 0.0, -9.0).astype(np.float32)


def samples(
    fused: np.ndarray, members: list[np.ndarray], status: np.ndarray, target: np.ndarray | None = None
) -> Samples:
    counts = np.arange(N)
    sizes = (np.arange(N) / 100).astype(np.float32)
    return Samples(
        ids=counts,
        y=Y,
        target=np.full(N, -1) if target is None else target,
        member_logits=np.stack([onehot(m) for m in members]),
        fused=onehot(fused),
        **{name: sizes for name in ("l0", "l1", "l2", "linf", "seconds")},
        **{name: counts for name in ("forwards", "backwards")},
        status=status,
        carried=np.zeros(N, np.int64),
        history=np.zeros((0, 0), np.float32),
        examples=np.zeros((0,), np.float32),
    )


def fill(store: Store) -> None:
    """Store a run for every cell: pgd breaks samples 1-3 at .1 and 1-5 at .2, fgsm 4 at .1 and 1 at .2."""
    wrong = (Y + 1) % 3
    clean_fused = Y.copy()
    clean_fused[0] = wrong[0]
    clean_members = [Y.copy(), Y.copy()]
    clean_members[0][0] = wrong[0]
    clean_members[1][7] = wrong[7]
    breaks = {("pgd", 0.1): [1, 2, 3], ("pgd", 0.2): [1, 2, 3, 4, 5], ("fgsm", 0.1): [4], ("fgsm", 0.2): [1]}
    for cell in STUDY.cells():
        fused, members, status = clean_fused.copy(), [m.copy() for m in clean_members], np.full(N, NOT_ATTACKED)
        target = None
        if cell.kind == "attack":
            status[1:] = OK
            rows = breaks[cell.attack.name, cell.eps]
            fused[rows] = wrong[rows]
        if cell.kind == "transfer":
            status[:] = OK
            target = (Y + 2) % 3 if cell.targeted else None
            aim = target if cell.targeted else wrong
            reach = {"member-0": 2, "member-1": 4, "ensemble": 6}[cell.source]
            for labels in (fused, *members[: 1 if cell.source == "member-0" else 2]):
                labels[:reach] = aim[:reach]
        if cell.attack and cell.attack.name == "fgsm" and cell.kind == "attack" and cell.eps == 0.2:
            status[6] = ERROR
        store.save(Run(cell, samples(fused, members, status, target), 1.0, (), {"torch": "t"}))


@pytest.fixture
def results(tmp_path: Path):
    store = Store(tmp_path)
    fill(store)
    return build(STUDY, store)


def test_what_images_were_resized_to_is_recorded(tmp_path: Path):
    study = replace(STUDY, dataset=replace(STUDY.dataset, image_size="256:224"))
    study = Study.from_json(json.loads(json.dumps(study.to_json())))
    store = Store(tmp_path)
    fill(store)
    assert build(study, store)["dataset"]["image_size"] == "256:224"


def test_heads(results):
    assert (results["schema_version"], results["robustkit_version"], results["seed"]) == (1, "9", 5)
    assert results["environment"] == {"torch": "t"}
    assert results["dataset"] == {"name": "digits", "split": "test", "n": 8, "classes": ["a", "b", "c"], "sha256": "dd"}
    assert results["ensembles"] == [
        {
            "id": "adp", "defense": "adp", "params": {"alpha": 2.0}, "arch": "lenet+resnet20", "members": 2,
            "weights_sha256": "ab" * 32, "fusion": "mean-prob", "checkpoint": None, "training": None,
            "accuracy": 7 / 8, "member_accuracy": [7 / 8, 7 / 8],
        }
    ]  # fmt: skip


def test_evaluations(results):
    rows = {(e["attack"], e["eps"]): e for e in results["evaluations"]}
    # Sample 0 is wrong from the start; a crashed sample is not robust.
    assert {k: e["robust_accuracy"] for k, e in rows.items()} == {
        ("pgd", 0.1): 4 / 8, ("pgd", 0.2): 2 / 8, ("fgsm", 0.1): 6 / 8, ("fgsm", 0.2): 5 / 8,
    }  # fmt: skip
    one = rows["pgd", 0.1]
    assert one["ci95"] == list(wilson(4, 8))
    assert one["clean_accuracy"] == 7 / 8
    assert one["mean_linf"] == pytest.approx(0.02)  # of the broken samples 1, 2, 3
    assert one["forwards"] == 4.0  # of the attacked samples 1 .. 7
    assert one["seconds"] == pytest.approx(0.28)
    assert one["params"] == {"steps": 10}
    assert rows["fgsm", 0.2]["verdict"] == "invalid"
    assert rows["fgsm", 0.1]["verdict"] == "suspect"  # pgd breaks more


def test_worst_case_is_per_sample(results):
    assert [(w["eps"], w["robust_accuracy"]) for w in results["worst_case"]] == [(0.1, 3 / 8), (0.2, 1 / 8)]
    assert results["worst_case"][0]["ci95"] == list(wilson(3, 8))


def test_transfer_matrices(results):
    found = {(t["attack"], t["metric"]): t for t in results["transfer"]}
    assert set(found) == {
        (a, m + s) for a in ("pgd", "fgsm") for m in ("accuracy", "success-rate") for s in ("", "-common-correct")
    }
    table = found["pgd", "accuracy"]
    assert table["sources"] == table["targets"] == ["member-0", "member-1", "ensemble"]
    assert table["params"]["eps"] == 0.1
    # From member 0, samples 0 and 1 fall on member 0 and the ensemble; member 1 keeps its own clean error on 7.
    assert table["matrix"] == [[6 / 8, 7 / 8, 6 / 8], [4 / 8, 3 / 8, 4 / 8], [2 / 8, 1 / 8, 2 / 8]]
    # Samples 1 .. 6 are right on every member.
    common = found["pgd", "accuracy-common-correct"]["matrix"]
    assert common == [[5 / 6, 1.0, 5 / 6], [3 / 6, 3 / 6, 3 / 6], [1 / 6, 1 / 6, 1 / 6]]
    assert found["pgd", "success-rate"]["matrix"][1] == [4 / 8, 4 / 8, 4 / 8]
    assert found["pgd", "success-rate"]["targeted"] is True


def test_results_are_plain_json(results, tmp_path: Path):
    json_file(results, tmp_path)
    assert (tmp_path / "results.json").stat().st_size > 1000


def test_a_missing_cell_is_named(tmp_path: Path):
    store = Store(tmp_path)
    fill(store)
    cells = [c for c in STUDY.cells() if c.kind == "attack"]
    (tmp_path / f"{cells[0].key}.json").unlink()
    with pytest.raises(RunError, match=r"lacks a cell \(attack\); run the same"):
        build(STUDY, store)


def test_plan():
    cells = list(STUDY.cells())
    assert len({c.key for c in cells}) == len(cells) == 1 + 2 * 2 + 2 * 2 * 3
    assert Study.from_json(STUDY.to_json()) == STUDY
    longer = Study(**{**STUDY.__dict__, "reference": True})
    extra = [c for c in longer.cells() if c not in cells]
    # As many passes as the PGD of 100 steps that was there, at most.
    params = {"steps": 24, "restarts": 4, "give_up": 0.4}
    assert [(c.attack.name, c.attack.params, c.eps) for c in extra] == [("quorum", params, eps) for eps in (0.1, 0.2)]
    voting = replace(longer, ensembles=(replace(STUDY.ensembles[0], fusion="majority"),))
    assert {c.attack.params["restarts"] for c in voting.cells() if c.attack and c.attack.name == "quorum"} == {8}
    assert [c.kind for c in Study(**{**STUDY.__dict__, "suites": ()}).cells()] == ["clean"]
    assert isinstance(cells[0], Cell)


def test_a_store_without_its_probes_gives_no_verdict(tmp_path: Path):
    """An evaluation that was killed before its checks must not look as if they had passed."""
    store = Store(tmp_path)
    fill(store)
    with pytest.raises(RunError, match=r"lacks \d+ of the trust probes; run the same"):
        build(Study(**{**STUDY.__dict__, "trust": "quick"}), store)


def test_minimum_norm_attack_has_a_curve_a_median_and_a_row_per_eps(tmp_path: Path):
    study = Study(**{**STUDY.__dict__, "attacks": (Spec("attack", "deepfool", {"steps": 50}),), "suites": ("attacks",)})
    store = Store(tmp_path)
    wrong = (Y + 1) % 3
    for cell in study.cells():
        fused, status = Y.copy(), np.full(N, OK if cell.attack else NOT_ATTACKED)
        if cell.attack:
            assert (cell.eps, cell.norm) == (None, "linf")
            fused[:6] = wrong[:6]  # broken at linf 0, .01 ... .05; samples 6 and 7 stand
            status[7] = ERROR
        store.save(Run(cell, samples(fused, [Y, Y], status), 1.0, (), {}))
    study = Study(**{**study.__dict__, "eps": (0.025, 0.2)})
    results = build(study, store)
    # More than .025 is needed by samples 3, 4, 5 and 6; a crashed sample is not robust.
    assert [(e["eps"], e["robust_accuracy"]) for e in results["evaluations"]] == [(0.025, 4 / 8), (0.2, 1 / 8)]
    assert [w["robust_accuracy"] for w in results["worst_case"]] == [4 / 8, 1 / 8]
    (row,) = results["minimum_norm"]
    assert (row["attack"], row["norm"], row["found"]) == ("deepfool", "linf", 7 / 8)
    assert row["median"] == pytest.approx((0.02 + 0.03) / 2)
    assert row["eps"] == pytest.approx([0, 0.01, 0.02, 0.03, 0.04, 0.05])
    assert row["accuracy"] == [6 / 8, 5 / 8, 4 / 8, 3 / 8, 2 / 8, 1 / 8]
    assert not results["transfer"]


def test_minimum_norm_attack_in_another_norm_is_scored_at_the_largest_perturbation():
    study = Study(**{**STUDY.__dict__, "dataset": DatasetRecord("d", "test", N, ("a",), "dd", (1, 4, 4))})
    assert study.budgets(Cell("attack", "e", "d", norm="l2")) == (4.0,)
    assert study.budgets(Cell("attack", "e", "d", norm="linf")) == study.eps
    assert study.budgets(Cell("attack", "e", "d", eps=0.3, norm="linf")) == (0.3,)
