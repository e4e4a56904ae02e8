"""Real tiny runs on digits: trained, evaluated, written, and taken up again without doing anything twice."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from robustkit import api
from robustkit.base.errors import UserError
from robustkit.base.progress import Reporter
from robustkit.data import load
from robustkit.defenses import defense
from robustkit.ensembles.checkpoint import load_ensemble
from robustkit.functional.stats import wilson
from robustkit.reproduce import adp_figure4, reproduction
from robustkit.reproduce._ask import check
from robustkit.reproduce._lab import Lab
from robustkit.reproduce._parts import Images
from robustkit.reproduce._recipes import ADP, adp_recipe
from robustkit.reproduce.runner import reproduce
from robustkit.study.config import ReproduceConfig
from robustkit.training import forward
from robustkit.training.loop import accuracies

QUICK = ["train.batch_size=256", "train.lr=0.01"]  # five steps an epoch
TABLE_1: dict[str, Any] = {"n": None, "epochs": 2, "arch": None}  # the budget's own architecture and images
SHORT = {
    "cw": ["cw.steps=5"], "ead": ["ead.steps=5"], "jsma": ["jsma.limit=steps"], "advt-pgd": ["advt-pgd.steps=2"],
}  # fmt: skip


def run(
    name: str, out: Path, stands_for: str, *, plain: bool = True, trust: str = "quick", **changed: Any
) -> dict[str, Any]:
    """Reproduce on digits; ``plain``: no trials of what is fastest, no curves of trainings, no pages of evaluations."""
    facts = reproduction.entry(name).facts
    methods = dict.fromkeys([*facts["attacks"], *(part for d in facts["defenses"] for part in d.split("+"))])
    asked: dict[str, Any] = {
        "epochs": 1,
        "arch": "networks:normed",
        "n": 12,
        "workers": 1,
        "device": "cpu",
        "settings": [*QUICK, *(s for method in methods for s in SHORT.get(method, []))],
        **changed,
    }
    with pytest.MonkeyPatch.context() as patch:
        if plain:
            real = api.evaluate
            patch.setattr(
                api, "evaluate", lambda **given: real(**{**given, "speed": "off", "formats": (), "trust": trust})
            )
            patch.setattr(forward, "choose", lambda *_, **__: forward.PLAIN)
            patch.setattr("robustkit.api._training.write_history", lambda *_: None)
        done = reproduce(name, dataset="digits", stands_for=stands_for, out=out, **asked)
    written: dict[str, Any] = json.loads((out / "reproduction.json").read_text())
    assert written == json.loads(json.dumps(done.to_json()))
    return written


@pytest.fixture(scope="module")
def table1(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, Any]]:
    out = tmp_path_factory.mktemp("table1")
    return out, run("adp-table1", out, "mnist", plain=False, **TABLE_1)


def test_table_1_has_the_errors_of_the_ensembles_it_trained(table1):
    out, written = table1
    assert len(written["comparisons"]) == 4 * 3
    fused, own = accuracies(load_ensemble(out / "ensembles" / "adp-2-0.5"), load("digits").split("test"))
    rows = {r["row"]: r for r in written["comparisons"] if r["column"] == "ADP(2,0.5)"}
    assert rows["Ensemble"]["ours"] == pytest.approx(100 * (1 - fused))
    assert [rows[f"Net {i + 1}"]["ours"] for i in range(3)] == pytest.approx([100 * (1 - a) for a in own])
    assert rows["Ensemble"]["difference"] == pytest.approx(100 * (1 - fused) - 0.28)
    assert rows["Ensemble"]["ci95"] == pytest.approx([100 * v for v in wilson(round(500 * (1 - fused)), 500)])
    params = json.loads((out / "ensembles" / "adp-2-0" / "ensemble.json").read_text())["training"]["defense"]["params"]
    assert (params["alpha"], params["beta"]) == (2.0, 0.0)


def test_table_1_says_what_differs(table1):
    _, written = table1
    differ = {d["setting"]: (d["paper"], d["ours"]) for d in written["settings_that_differ"]}
    assert differ["dataset"] == ("mnist", "digits")
    assert differ["training images"] == (50_000, 1097)
    assert differ["epochs"] == (40, 2)
    assert differ["batch size"] == (64, 256)
    assert differ["architecture"] == ("resnet20", "small-resnet")
    assert differ["test images (clean)"] == (10_000, 500)
    assert not {"members", "weight decay", "adp.alpha", "adp.beta", "fusion", "defense"} & set(differ)


def test_the_page_names_the_command_the_numbers_and_the_settings(table1):
    out, written = table1
    page = (out / "reproduction.md").read_text()
    assert f"    {written['command']}\n" in page
    row = next(r for r in written["comparisons"] if (r["row"], r["column"]) == ("Ensemble", "ADP(2,0)"))
    low, high = row["ci95"]
    assert (
        f"| Ensemble | ADP(2,0) | 0.32 | {row['ours']:.2f} [{low:.2f}, {high:.2f}] | {row['difference']:+.2f} |" in page
    )
    assert "| epochs | 40 | 2 |" in page
    assert (out / "evaluations" / "clean" / "report.html").is_file()


def test_the_same_command_trains_nothing_again_and_gives_the_same(table1, monkeypatch: pytest.MonkeyPatch):
    out, written = table1
    monkeypatch.setattr(api, "train", lambda **_: pytest.fail("trained again"))
    assert run("adp-table1", out, "mnist", **TABLE_1) == written


def test_another_request_is_not_taken_for_a_finished_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """Nor is one that was made with a setting which the request now leaves to its default."""
    trained, real = [], api.train
    monkeypatch.setattr(api, "train", lambda **asked: (trained.append(asked["out"].name), real(**asked))[1])
    shifted = run("adp-figure2", tmp_path, "cifar10", settings=[*QUICK, "train.shift=0"])
    assert {"setting": "train.shift", "paper": "not stated", "ours": "0"} in shifted["settings_that_differ"]
    meta = tmp_path / "ensembles" / "baseline" / "ensemble.json"
    assert json.loads(meta.read_text())["training"]["shift"] == 0
    plain = run("adp-figure2", tmp_path, "cifar10")
    assert trained == ["baseline", "adp-2-0.5"] * 2
    assert json.loads(meta.read_text())["training"]["shift"] == 0.1
    assert "train.shift" not in {d["setting"] for d in plain["settings_that_differ"]}


def test_a_damaged_ensemble_is_made_again(table1, monkeypatch: pytest.MonkeyPatch):
    out, written = table1
    weights = out / "ensembles" / "baseline" / "weights.safetensors"
    weights.write_bytes(weights.read_bytes()[:-8])
    again, real = [], api.train
    monkeypatch.setattr(api, "train", lambda **asked: (again.append(asked["defense"]), real(**asked))[1])
    assert run("adp-table1", out, "mnist", **TABLE_1) == written
    assert again == ["baseline"]


def test_a_kill_in_the_middle_loses_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """Interrupted in the second training, the same call goes on with it and does not repeat the first."""
    started, real = [], api.train

    def killed_in_the_second(**asked: Any) -> Any:
        started.append(asked["out"].name)
        if len(started) == 2:
            raise KeyboardInterrupt
        return real(**asked)

    monkeypatch.setattr(api, "train", killed_in_the_second)
    with pytest.raises(KeyboardInterrupt):
        run("adp-figure5", tmp_path, "cifar10")
    assert not (tmp_path / "reproduction.json").exists()
    run("adp-figure5", tmp_path, "cifar10")
    assert started == ["baseline", "adp-2-0", "adp-2-0", "adp-2-0.5"]


def test_the_budgets(tmp_path: Path):
    def lab(**asked: Any) -> Lab:
        return Lab(
            check(ReproduceConfig("adp-table2", dataset="digits", stands_for="mnist", out=tmp_path, **asked)),
            Reporter(),
        )

    def job(**asked: Any) -> dict[str, Any]:
        return lab(**asked)._job(ADP, adp_recipe("mnist")).arguments

    published = {
        "adp.alpha": 2.0,
        "adp.beta": 0.5,
        "train.lr": 0.001,
        "train.batch_size": 64,
        "train.weight_decay": 1e-4,
        "train.optimiser": "adam",
        "train.schedule": "steps",
        "train.drops": "2/3,8/9",
    }
    full, small = job(scale="paper"), job()
    assert (full["arch"], full["epochs"], full["members"], full["settings"]) == ("resnet20", 40, 3, published)
    # 18 batches of 64 make an epoch of 1,097 images: 111 epochs are 1,998 steps.
    assert (small["arch"], small["epochs"], small["members"], small["settings"]) == ("small-resnet", 111, 3, published)
    own = job(epochs=7, arch="lenet", settings=["train.lr=0.1", "adp.beta=0", "pgd.steps=3"])
    assert (own["arch"], own["epochs"]) == ("lenet", 7)
    assert own["settings"] == {**published, "train.lr": "0.1", "adp.beta": "0"}
    images = Images(paper=100, small=20)
    assert [lab(**a).count(images) for a in ({}, {"scale": "paper"}, {"n": 50}, {"n": 5000})] == [20, 100, 50, 100]


def test_table_2_cut_down(tmp_path: Path):
    written = run("adp-table2", tmp_path, "mnist")
    rows = {(r["row"], r["column"]): r for r in written["comparisons"]}
    assert len(rows) == 17 * 3
    assert rows["PGD eps=0.1", "ADP(2,0.5)"]["paper"] == 82.8
    assert rows["C&W c=10", "Baseline"]["paper"] == 5.9
    assert rows["JSMA gamma=0.6", "ADP(2,0)"]["paper"] == 85.0
    found = json.loads((tmp_path / "evaluations" / "fgsm-bim-pgd-mim" / "results.json").read_text())["evaluations"]
    mim = next(e for e in found if (e["ensemble"], e["attack"], e["eps"]) == ("adp-2-0", "mim", 0.15))
    row = rows["MIM eps=0.15", "ADP(2,0)"]
    assert row["ours"] == pytest.approx(100 * mim["robust_accuracy"])
    assert row["verdict"] == mim["verdict"]
    assert row["ci95"] == pytest.approx([100 * v for v in mim["ci95"]])
    # A larger budget or constant never leaves more standing.
    for column in ("Baseline", "ADP(2,0)", "ADP(2,0.5)"):
        for weak, strong in (("BIM eps=0.1", "BIM eps=0.15"), ("JSMA gamma=0.3", "JSMA gamma=0.6")):
            assert rows[weak, column]["ours"] >= rows[strong, column]["ours"]
        for row in ("JSMA gamma=0.3", "JSMA gamma=0.6"):
            assert rows[row, column]["ours"] >= rows[f"{row}, not stuck", column]["ours"]
            assert rows[f"{row}, not stuck", column]["paper"] is None
    assert rows["JSMA gamma=0.6", "Baseline"]["ours"] > rows["JSMA gamma=0.6, not stuck", "Baseline"]["ours"]
    assert "stays as it is" in (tmp_path / "reproduction.md").read_text()
    differ = {d["setting"]: (d["paper"], d["ours"]) for d in written["settings_that_differ"]}
    assert differ["cw.steps"] == (1000, 5)
    assert differ["test images (fgsm-bim-pgd-mim)"] == (10_000, 12)
    assert not [name for name in differ if name.startswith("jsma")]


FIGURES = {"adp-figure2": 1, "adp-figure3": 4, "adp-figure4": 1, "adp-figure5": 1}
OTHERS = [
    e
    for e in reproduction
    if e.name not in ("adp-table1", "adp-table2") and "searches" not in e.facts and "cifar10" in e.facts["datasets"]
]
HERE = set(defense.names())


@pytest.mark.parametrize("entry", OTHERS, ids=lambda e: e.name)
def test_every_other_one_runs_and_draws(entry, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(adp_figure4, "LADDER", (0.1, 0.4))  # fewer rungs, for time
    if not {part for name in entry.facts["defenses"] for part in name.split("+")} <= HERE:
        with pytest.raises(UserError, match="unknown defense"):
            run(entry.name, tmp_path, "cifar10")
        return
    written = run(entry.name, tmp_path, "cifar10", trust="off")  # what checks cost is tested elsewhere
    assert written["comparisons"]
    assert all(r["ours"] is not None or r["unit"] in ("", "%") for r in written["comparisons"])
    assert len(written["figures"]) == FIGURES.get(entry.name, 0)
    for figure in written["figures"]:
        assert (tmp_path / figure).read_bytes().startswith(b"\x89PNG")
        assert (tmp_path / figure).with_suffix(".svg").stat().st_size > 1000
        assert f"({figure})" in (tmp_path / "reproduction.md").read_text()
    assert bool(written["claims"]) == (entry.name in FIGURES)
    assert {"dataset", "epochs", "architecture"} <= {d["setting"] for d in written["settings_that_differ"]}
