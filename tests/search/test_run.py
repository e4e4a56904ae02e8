"""Whole searches on a few digits: what comes out, that it is evaluated like any other, kills, and what is refused."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from in_process import invoke

from robustkit import api, data
from robustkit.base.errors import UserError
from robustkit.base.progress import Reporter
from robustkit.ensembles.checkpoint import load_ensemble, read_meta
from robustkit.ensembles.ensemble import Ensemble
from robustkit.models._genotype import Genotype, from_json, read
from robustkit.search import _alternate, _choose, get, method
from robustkit.search._lab import SearchLab

SMALL = {"darts.batch_size": 32, "darts.width": 8, "darts.nodes": 5, "train.batch_size": 128}
FEW = {"epochs": 3, "batch_size": 16, "width": 4, "nodes": 5, "partial": 1}


def asked(out: Path, few: data.Dataset, **changed: Any) -> dict[str, Any]:
    given = {
        "dataset": few, "members": 2, "search_epochs": 2, "epochs": 2, "out": out, "device": "cpu", "speed": "off",
        "settings": SMALL, "workers": 1,
    }  # fmt: skip
    return {**given, **changed}


def laboratory(few: data.Dataset, folder: Path, **changed: Any) -> SearchLab:
    given: dict[str, Any] = {"members": 2, "seed": 0, "asked": {"method": "darts"}, **changed}
    return SearchLab(few, device=torch.device("cpu"), folder=folder, reporter=Reporter(), **given)


@pytest.fixture(scope="module")
def few(digits: data.Dataset) -> data.Dataset:
    """Images of a program's own are only evaluated; here they have splits."""
    from dataclasses import replace

    keep = {"train": 192, "validation": 60, "test": 60}
    source = replace(digits.source, read=lambda name: digits.split(name).take(keep[name]))
    return replace(digits, source=source, _splits={})


@pytest.fixture(scope="module")
def searched(few: data.Dataset, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, Any]]:
    out = tmp_path_factory.mktemp("search") / "found"
    settings = {key.replace("darts.", "random-deviation."): value for key, value in SMALL.items()}
    return out, api.search(
        "random-deviation", **asked(out, few, settings={**settings, "random-deviation.candidates": 3})
    )


def test_what_is_written(searched: tuple[Path, dict[str, Any]], few: data.Dataset):
    out, record = searched
    assert json.loads((out / "search.json").read_text()) == record
    assert [row["epoch"] for row in record["history"]["darts"]] == [1, 2]
    half = len(few.split("train")) // 2
    assert record["costs"]["darts"]["forward"] == record["costs"]["darts"]["backward"] == 2 * 2 * half
    assert record["costs"]["training"]["forward"] == 3 * 2 * len(few.split("train"))
    assert all(cost["seconds"] > 0 for cost in record["costs"].values())
    meta = read_meta(out)
    assert [row["params"] for row in meta["members"]] == [
        row["arch_params"] for row in record["candidates"] if row["name"] in record["chosen"]
    ]
    assert meta["data"] == {"name": "digits", "sha256": few.split("train").sha256()}
    for row in record["candidates"]:
        place = out / "candidates" / row["name"]
        genotype, network = read(place / "genotype.json")
        assert genotype == from_json(row["arch_params"]["genotype"])
        assert network == {"cells": 2, "width": 8}
        assert (place / "cell.svg").read_text().lstrip().startswith("<?xml")
        assert read_meta(place)["training"]["arch_params"] == row["arch_params"]


def test_members_are_the_best_subset(searched: tuple[Path, dict[str, Any]], few: data.Dataset):
    out, record = searched
    validation = few.split("validation")
    _, x, y = validation.batch(range(len(validation)))
    every = {row["name"]: load_ensemble(out / "candidates" / row["name"]).members[0] for row in record["candidates"]}
    scores = {}
    for pair in ((0, 1), (0, 2), (1, 2)):
        names = [record["candidates"][at]["name"] for at in pair]
        with torch.no_grad():
            fused = Ensemble([every[name] for name in names]).eval()(x)
        right = (fused.argmax(1) == y).double().mean()
        scores[tuple(names)] = (float(right), -float(torch.nn.functional.nll_loss(fused.double(), y)))
    assert tuple(record["chosen"]) == max(scores, key=lambda names: scores[names])
    assert record["metrics"]["validation_accuracy"] == max(scores.values())[0]
    chosen = load_ensemble(out)
    for member, name in zip(chosen.members, record["chosen"], strict=True):
        for key, value in every[name].state_dict().items():
            assert torch.equal(member.state_dict()[key], value)


def test_evaluated_and_pooled_without_a_word_more(searched: tuple[Path, dict[str, Any]], tmp_path: Path):
    out, record = searched
    common = ["--dataset", "digits", "--n", "20", "--device", "cpu", "--workers", "1", "--format", "md"]
    quick = ["--attacks", "fgsm", "--eps", "0.1", "--trust", "off", "--no-reference"]
    code, _, error = invoke(*["evaluate", "--checkpoint", str(out), *common, *quick, "--out", str(tmp_path / "a")])
    assert code == 0, error
    results = json.loads((tmp_path / "a" / "results.json").read_text())
    assert results["ensembles"][0]["members"] == 2
    code, said, error = invoke(*[
        "evaluate", "--pool", str(out), "--subset-size", "2", "--pool-attribution", "0", *common,
        "--out", str(tmp_path / "b"),
    ])  # fmt: skip
    assert code == 0, error
    pools = json.loads((tmp_path / "b" / "results.json").read_text())["pools"]
    assert len(pools["members"] if isinstance(pools, dict) else pools[0]["members"]) == len(record["candidates"])


def test_the_same_command_again_computes_nothing(
    searched: tuple[Path, dict[str, Any]], few: data.Dataset, monkeypatch: pytest.MonkeyPatch
):
    out, record = searched
    monkeypatch.setattr(_alternate.Alternation, "epoch", None)
    settings = {key.replace("darts.", "random-deviation."): value for key, value in SMALL.items()}
    again = api.search("random-deviation", **asked(out, few, settings={**settings, "random-deviation.candidates": 3}))
    assert (again["candidates"], again["chosen"]) == (record["candidates"], record["chosen"])
    costs = again["costs"]["darts"], record["costs"]["darts"]
    assert costs[0]["forward"] == costs[1]["forward"]
    assert costs[0]["seconds"] == pytest.approx(costs[1]["seconds"], abs=0.5)  # as counted then, not anew


def test_another_search_takes_the_folder_of_one_that_is_done(few: data.Dataset, tmp_path: Path):
    api.search(
        "random", **asked(tmp_path, few, search_epochs=None, members=1, epochs=1, settings={"random.candidates": 2})
    )
    assert sorted(p.name for p in (tmp_path / "candidates").iterdir()) == ["random-0", "random-1"]
    done = api.search("darts", **asked(tmp_path, few, members=1, epochs=1))
    assert [p.name for p in (tmp_path / "candidates").iterdir()] == ["darts-0"]
    assert done["chosen"] == ["darts-0"]
    assert done["subsets"] == 1


@pytest.mark.parametrize("name", ["darts", "darts-ensemble"])
def test_a_killed_search_ends_as_one_that_was_not(
    name: str, few: data.Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    find = get(name)
    whole = laboratory(few, tmp_path / "whole")
    expected = find(whole, **FEW)
    monkeypatch.setattr(_alternate, "BETWEEN_SAVES", 0.0)
    plain, left = _alternate.Alternation.epoch, [2]

    def killed(self: Any, advance: Any) -> None:
        if left[0] == 0:
            raise KeyboardInterrupt
        left[0] -= 1
        plain(self, advance)

    monkeypatch.setattr(_alternate.Alternation, "epoch", killed)
    attempts = 0
    while True:  # killed after each second epoch, a new process each time
        left[0], attempts = 2, attempts + 1
        lab = laboratory(few, tmp_path / "killed")
        try:
            found = find(lab, **FEW)
            break
        except KeyboardInterrupt:
            pass
    assert attempts == {"darts": 2, "darts-ensemble": 3}[name]
    assert found == expected
    for file in sorted((tmp_path / "whole").iterdir()):
        one, other = (torch.load(folder / file.name)["state"] for folder in (tmp_path / "whole", tmp_path / "killed"))
        assert one.keys() == other.keys()
        for part in ("network", "architectures"):
            assert all(torch.equal(one[part][key], other[part][key]) for key in one[part])
        strip = [
            [{k: v for k, v in row.items() if k != "seconds"} for row in state["history"]] for state in (one, other)
        ]
        assert strip[0] == strip[1]
    for phase, cost in whole.costs.items():
        assert (cost.forward, cost.backward) == (lab.costs[phase].forward, lab.costs[phase].backward)
        assert lab.costs[phase].seconds > 0


def test_a_state_of_other_settings_is_refused_and_a_damaged_one_forgotten(few: data.Dataset, tmp_path: Path):
    lab = laboratory(few, tmp_path)
    lab.checkpoint("darts").save({"x": torch.ones(2)})
    assert torch.equal(laboratory(few, tmp_path).checkpoint("darts").load()["x"], torch.ones(2))
    other = laboratory(few, tmp_path, asked={"method": "darts", "seed": 1})
    with pytest.raises(UserError, match="differs in seed: 1, there None; give the same options"):
        other.checkpoint("darts").load()
    lab.checkpoint("darts").path.write_bytes(b"broken")
    assert lab.checkpoint("darts").load() is None


def test_halves_are_of_the_training_split_and_meet_nowhere(few: data.Dataset, tmp_path: Path):
    lab = laboratory(few, tmp_path)
    rows = {name: {x.numpy().tobytes() for x in half.pixels} for name, half in
            (("weights", lab.weights), ("architectures", lab.architectures))}  # fmt: skip
    train = {x.numpy().tobytes() for x in few.split("train").x}
    assert len(lab.weights.y) + len(lab.architectures.y) == len(few.split("train"))
    assert rows["weights"] | rows["architectures"] == train
    assert not rows["weights"] & rows["architectures"]
    other = laboratory(few, tmp_path, seed=1)
    assert not torch.equal(other.weights.y, lab.weights.y)


def test_darts_learns_architecture_and_weights(few: data.Dataset, tmp_path: Path):
    lab = laboratory(few, tmp_path)
    get("darts")(lab, **{**FEW, "epochs": 12})
    rows = lab.histories["darts"]
    assert rows[-1]["training_loss"] < 0.5 * rows[0]["training_loss"]
    assert rows[-1]["validation_accuracy"] > rows[0]["validation_accuracy"] + 0.2
    vector = torch.load(tmp_path / "darts.pt")["state"]["architectures"]["vector"]
    assert vector.abs().max() > 0.1  # it began within a few thousandths of zero


def test_random_candidates_depend_on_the_seed_alone(few: data.Dataset, tmp_path: Path):
    one, again, other = (get("random")(laboratory(few, tmp_path, seed=seed), candidates=4) for seed in (0, 0, 1))
    assert one == again
    assert [c.facts["architecture"] for c in one] != [c.facts["architecture"] for c in other]


def test_equal_accuracy_is_decided_by_cross_entropy(monkeypatch: pytest.MonkeyPatch, few: data.Dataset):
    y = np.array([0, 1])
    sure, unsure = np.array([[[9.0, 0], [0, 9]]]), np.array([[[1.0, 0], [0, 1]]])
    wrong = -sure
    logits = iter([unsure, wrong, sure])
    monkeypatch.setattr(_choose, "logits", lambda ensemble, split: next(logits).astype(np.float32))

    class Two:
        pass

    Two.y = torch.from_numpy(y)
    assert _choose.best([None] * 3, Two, 1, None, 0) == _choose.Choice((2,), 1.0, 3)
    logits = iter([unsure, wrong, sure, sure])
    assert _choose.best([None] * 4, Two, 2, None, 0) == _choose.Choice((2, 3), 1.0, 6)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["dart"], "unknown method 'dart': did you mean 'darts'?"),
        (
            ["random", "--search-epochs", "3"],
            "--search-epochs 3 has no effect on 'random', which has none; leave it out",
        ),
        (["darts", "--search-epochs", "3", "--set", "darts.epochs=2"], "say the same; leave one of the two out"),
        (["darts", "--set", "random.candidates=9"], "unknown method in --set 'random'"),
        (["darts", "--set", "darts.order=2"], "method 'darts' has no parameter 'order'"),
        (["darts", "--set", "darts.nodes=2"], "nodes 2 is out of range; a cell has 4 to 16 of them"),
        (["darts", "--set", "darts.width=6"], "width 6 cannot be divided by partial 4"),
        (["random", "--members", "7"], "7 members cannot be chosen of 6 candidates; give --set random.candidates=7"),
        (["random-deviation", "--set", "random-deviation.replaced=4"], "has 3 edges, so that it must be in [0, 3]"),
        (["darts-ensemble", "--set", "darts-ensemble.candidates=2"], "3 members cannot be chosen of 2 candidates"),
        (["edgenes", "--set", "edgenes.lam=-0.1"], "edgenes.lam -0.1 is out of range; an architecture of 6 nodes"),
        (["edgenes", "--set", "edgenes.hyper_lr=-1"], "hyper_lr -1 is out of range"),
        (["edgenes", "--set", "edgenes.cells=0"], "cells 0 is out of range"),
        (["darts", "--set", "darts.architecture_lr=0"], "architecture_lr 0 is out of range"),
        (["darts", "--set", "darts.partial=0"], "partial 0 is out of range"),
        (["darts", "--set", "darts.width=0"], "width 0 is out of range"),
        (["darts", "--set", "darts.batch_size=1"], "darts.batch_size 1 is out of range; it must be at least 2"),
        (["supernet", "--set", "supernet.batch_size=1"], "supernet.batch_size 1 is out of range"),
        (
            ["random-deviation", "--set", "random-deviation.replaced=0"],
            "3 different members cannot be chosen of 1, which is all the architectures that",
        ),
        (
            ["random", "--members", "15", "--set", "random.candidates=20", "--set", "random.nodes=4"],
            "15 different members cannot be chosen of 14",
        ),
        (["darts", "--fusion", "random:0.5,0.5"], "has 2 probabilities, but the ensemble has 3 members"),
    ],
)
def test_what_cannot_be_is_told_in_one_sentence(words: list[str], message: str, tmp_path: Path):
    code, said, error = invoke(*["search", *words, "--out", str(tmp_path / "out"), "--device", "cpu"])
    assert code == 2, said + error
    assert message in " ".join(error.split())
    assert not (tmp_path / "out" / "search.json").exists()


def test_as_few_training_images_as_no_step_can_be_done_with(tmp_path: Path):
    x, y = np.random.default_rng(0).random((8, 1, 8, 8), np.float32), np.arange(8) % 2
    np.savez(tmp_path / "few.npz", x_train=x[:3], y_train=y[:3], x_test=x, y_test=y)
    with pytest.raises(UserError, match="has 2 training samples; a search needs two halves of two or more"):
        api.search("darts", dataset=f"npz:{tmp_path / 'few.npz'}", out=tmp_path / "out", device="cpu")


def test_images_too_small_for_the_reductions(tmp_path: Path):
    x, y = np.random.default_rng(0).random((40, 1, 6, 6), np.float32), np.arange(40) % 4
    np.savez(tmp_path / "small.npz", x=x, y=y)
    for name in ("darts", "random", "random-deviation", "darts-ensemble"):
        with pytest.raises(UserError, match="images of 6x6 pixels are too small for the two reductions"):
            api.search(name, dataset=f"npz:{tmp_path / 'small.npz'}", out=tmp_path / "out", device="cpu")


def test_command_lists_methods():
    for words in (["search", "list"], ["list", "searches"]):
        code, said, _ = invoke(*words)
        assert code == 0
        assert all(entry.name in said for entry in method)


def test_an_architecture_by_its_file(few: data.Dataset, tmp_path: Path):
    file = tmp_path / "one.json"
    genotype = Genotype((1, 2), ("skip_connect", "dil_conv_3x3"))
    file.write_text(json.dumps({**genotype.to_json(), "network": {"width": 4}}))
    common = {"arch": f"genotype:{file}", "dataset": few, "device": "cpu"}
    api.train(**common, defense="baseline", members=2, epochs=1, speed="off", out=tmp_path / "trained")
    torch.save(load_ensemble(tmp_path / "trained").members[0].network.state_dict(), tmp_path / "one.pt")
    audited = api.audit(
        tmp_path / "one.pt", **common, n=20, attacks="fgsm", eps=0.1, suites="attacks", trust="off", reference=False,
        force=True, formats=(), out=tmp_path / "audit",
    )  # fmt: skip
    assert len(audited["ensembles"]) == 1
    file.unlink()
    (row, _) = read_meta(tmp_path / "trained")["members"]
    assert row["arch"] == "genotype"
    assert row["params"] == {"genotype": genotype.to_json(), "width": 4}
    assert len(load_ensemble(tmp_path / "trained")) == 2


def test_the_page_says_what_the_record_says(searched: tuple[Path, dict[str, Any]]):
    out, record = searched
    text = (out / "search.html").read_text()
    assert f"{100 * record['metrics']['test_accuracy']:.1f} %" in text
    for row in record["candidates"]:
        assert f"{100 * row['validation_accuracy']:.1f}" in text
        assert f"{row['parameters']:,}" in text
        assert row["facts"]["architecture"].replace("<", "&lt;") in text
    assert text.count("data:image/svg+xml") == len(record["candidates"])
    assert f"robustkit evaluate --checkpoint {out}" in text
