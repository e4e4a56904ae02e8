"""A pool of members: found, refused, scored once for all subsets, stored, resumed, reported."""

from __future__ import annotations

import copy
import csv
import itertools
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from in_process import invoke

from robustkit import api, data, models
from robustkit.base.errors import RunError, UserError
from robustkit.corruptions import _copy
from robustkit.ensembles import pool
from robustkit.ensembles.checkpoint import load_ensemble, save_ensemble
from robustkit.ensembles.ensemble import Ensemble, Member
from robustkit.functional.attribution import saliency
from robustkit.metrics import diversity
from robustkit.records.cells import Spec
from robustkit.records.schema import Results
from robustkit.records.store import Store
from robustkit.reports import write
from robustkit.reports._pool_scatter import scatter
from robustkit.reports.json_file import load_results
from robustkit.suites import _pool_maps, pools

N = 60
ASKED: dict[str, Any] = {"dataset": "digits", "n": N, "device": "cpu", "workers": 1, "pool_attribution": 20}


def save(folder: Path, members: list[Member], arch: str = "lenet", classes: int = 10, side: int = 8) -> Path:
    names = [str(label) for label in range(classes)]
    save_ensemble(Ensemble(members), folder, arch=[arch] * len(members), classes=names, shape=(1, side, side))
    return folder


@pytest.fixture(scope="module")
def members(few_digits: data.Dataset) -> list[Member]:
    """Four small networks after a few steps on digits, no two of them as long."""
    _, x, y = few_digits.split("train").batch(torch.arange(256))
    found = []
    for seed in range(4):
        with torch.random.fork_rng():
            torch.manual_seed(seed)
            member = Member(models.build("lenet", 1, 10, {}))
        optimiser = torch.optim.Adam(member.parameters(), lr=0.005)
        for _ in range(10 + 8 * seed):
            optimiser.zero_grad()
            torch.nn.functional.cross_entropy(member(x), y).backward()
            optimiser.step()
        found.append(member.eval())
    return found


@pytest.fixture(scope="module")
def folders(members: list[Member], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """``pair`` of two members, ``single`` of one, ``again`` of one that is new and one that ``pair`` has."""
    base = tmp_path_factory.mktemp("pool")
    save(base / "pair", members[:2])
    save(base / "single", members[2:3])
    save(base / "again", [members[3], members[0]])
    (base / "notes").mkdir()
    return base


@pytest.fixture(scope="module")
def done(folders: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Results, Path]:
    """An evaluation of the whole pool on clean digits and four corruptions."""
    out = tmp_path_factory.mktemp("out")
    return api.evaluate(**ASKED, pool=folders, corruptions="design-diversity", out=out, formats=()), out


def names(result: Any) -> list[str]:
    return [member["id"] for member in result["members"]]


def test_members_of_all_folders_once(done: tuple[Results, Path], members: list[Member]) -> None:
    results, _ = done
    (result,) = results["pools"]
    assert names(result) == ["again/0", "again/1", "pair/1", "single"]  # by folder; pair/0 is again/1
    assert result["notes"] == ["1 double: member 'pair/0' is the same as 'again/1' and counts once."]
    assert [(m["ensemble"], m["member"], m["arch"]) for m in result["members"]][1:3] == [
        ("again", 1, "lenet"), ("pair", 1, "lenet"),
    ]  # fmt: skip
    assert result["members"][0]["parameters"] == sum(p.numel() for p in members[0].parameters())
    assert (result["subset_size"], result["possible"]) == (3, 4)
    assert result["subsets"] == [[0, 1, 2], [0, 1, 3], [0, 2, 3], [1, 2, 3]]
    assert not results["evaluations"]  # the pool alone
    assert not results["transfer"]
    assert not results["corruptions"]


def test_numbers_of_a_set_are_those_of_the_ensembles(
    done: tuple[Results, Path], members: list[Member], digits: data.Dataset
) -> None:
    """Each subset built, run and measured by itself."""
    clean = done[0]["pools"][0]["sets"][0]
    _, x, y = digits.split("test").batch(torch.arange(N))
    order = [members[3], members[0], members[1], members[2]]
    maps = saliency(order, x[:20], y[:20], create_graph=False).abs().flatten(2).numpy()
    assert (clean["name"], clean["n"], clean["left_out"], clean["attribution_images"]) == ("clean", N, 0, 20)
    own = [(member(x).argmax(1) == y).double().mean().item() for member in order]
    assert clean["member_accuracy"] == pytest.approx(own)
    for at, subset in enumerate(itertools.combinations(range(4), 3)):
        assert clean["best_member"][at] == pytest.approx(max(own[m] for m in subset))
        for rule in clean["rules"]:
            with torch.no_grad():
                fused = Ensemble([order[m] for m in subset], rule["rule"])(x)
            accuracy = (fused.argmax(1) == y).double().mean().item()
            assert rule["accuracy"][at] == pytest.approx(accuracy), rule["rule"]
            assert rule["gain"][at] == pytest.approx(accuracy - max(own[m] for m in subset))
        labels = np.stack([order[m](x).argmax(1).numpy() for m in subset])
        found = {name: values[at] for name, values in clean["measures"].items()}
        assert found["label_disagreement"] == pytest.approx(diversity.label_disagreement(labels))
        assert found["rho"] == pytest.approx(diversity.correlation(labels, y.numpy()))
        spread = maps[list(subset)].var(0).sum(1).mean()
        assert found["attribution_variance"] == pytest.approx(spread, rel=1e-4)
    for rule in clean["rules"]:
        gains = np.array(rule["gain"])
        assert (rule["mean_gain"], rule["gained"]) == (pytest.approx(gains.mean()), (gains > 0).mean())
        (row,) = [c for c in clean["correlations"] if (c["rule"], c["measure"]) == (rule["rule"], "label_disagreement")]
        expected = np.corrcoef(gains, clean["measures"]["label_disagreement"])[0, 1] if np.ptp(gains) else None
        assert row["pearson"] == (expected if expected is None else pytest.approx(expected))
        assert row["subsets"] == 4


def test_each_corruption_is_a_validation_set(done: tuple[Results, Path]) -> None:
    sets = done[0]["pools"][0]["sets"]
    assert [one["name"] for one in sets] == ["clean", *(one["corruption"] for one in sets[1:])]
    assert len(sets) == 5
    assert {one["suite"] for one in sets[1:]} == {"design-diversity"}
    assert len({tuple(one["member_accuracy"]) for one in sets}) > 2  # they are different images
    assert len({one["measures"]["attribution_variance"][0] for one in sets}) == 5


def test_middle_severities() -> None:
    asked = [Spec("s", "fog", {"severity": s}) for s in (5, 1, 3, 2, 4)] + [Spec("s", "snow", {"severity": 2})]
    assert [(c.name, c.params["severity"]) for c in pool.middle_severities(asked)] == [("fog", 3), ("snow", 2)]
    assert [c.params["severity"] for c in pool.middle_severities(asked[:2])] == [1]


def test_the_report_comes_from_the_store_alone(done: tuple[Results, Path], tmp_path: Path) -> None:
    results, out = done
    assert load_results(out) == results
    again = api.report(out, formats=("csv",), out=tmp_path)
    assert again == results
    with (tmp_path / "tables" / "pools.csv").open() as stream:
        rows = list(csv.DictReader(stream))
    assert len(rows) == 5 * 4
    assert rows[1]["subset"] == "again/0 + again/1 + single"
    clean = results["pools"][0]["sets"][0]
    assert float(rows[1]["gain_majority"]) == clean["rules"][4]["gain"][1]
    with (tmp_path / "tables" / "pools-correlation.csv").open() as stream:
        assert len(list(csv.DictReader(stream))) == 5 * 5 * len(clean["measures"])


def test_html_shows_tables_and_a_figure_for_each_set(done: tuple[Results, Path], tmp_path: Path) -> None:
    results: Any = copy.deepcopy(done[0])
    results["pools"][0]["sets"] = results["pools"][0]["sets"][:1]  # a figure takes a second
    write(results, tmp_path, ["html"])
    page = (tmp_path / "report.html").read_text()
    assert "Pool of 4 members: 4 subsets of 3" in page
    assert page.count('<figure class="chart" id="chart-pools-') == 1
    assert "again/0 + again/1 + single" in page
    assert "1 double: member" in page


def test_figure_leaves_out_what_is_not_defined(done: tuple[Results, Path]) -> None:
    one = copy.deepcopy(done[0]["pools"][0]["sets"][0])
    one["measures"]["rho"] = [None] * 4
    one["measures"]["error_ratio"][0] = None
    panels = {axes.get_title().split("\n")[0]: axes for axes in scatter(one).axes if axes.get_visible()}
    assert len(panels) == len(one["measures"]) - 1
    assert "rho" not in panels
    found = {c["rule"]: c["pearson"] for c in one["correlations"] if c["measure"] == "double_fault"}
    shown = ", ".join(f"{found[rule]:+.2f}" if found[rule] is not None else "-" for rule in ("mean-logit", "majority"))
    assert panels["double fault"].get_title() == f"double fault\nr = {shown}"
    assert len(panels["error ratio"].collections[0].get_offsets()) == 3
    points = panels["double fault"].collections[1].get_offsets()
    assert [p[1] for p in points] == pytest.approx([100 * gain for gain in one["rules"][4]["gain"]])


def test_a_killed_run_goes_on(done: tuple[Results, Path], folders: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing is computed again but what the store lost: one ensemble's clean logits and the maps of one set."""
    results, out = done
    store = Store(out / "runs")
    cells = list(store.cells())
    lost = [next(c for c in cells if c.kind == "clean"), next(c for c in cells if c.name == "pool-saliency")]
    for cell in lost:
        (out / "runs" / f"{cell.key}.npz").write_bytes(b"cut off")
    with pytest.raises(RunError, match="lacks"):
        api.report(out, formats=())
    saved: list[Any] = []
    write = Store._write
    monkeypatch.setattr(Store, "_write", lambda self, cell, *rest: (saved.append(cell), write(self, cell, *rest)))
    again = api.evaluate(**ASKED, pool=folders, corruptions="design-diversity", out=out, formats=())
    assert {cell.key for cell in saved} == {cell.key for cell in lost}
    assert again.pop("run")["started"] >= results["run"]["started"]  # the only thing that differs
    assert again == {name: value for name, value in results.items() if name != "run"}


def test_validation_sets_are_read_from_a_published_set(folders: Path, tmp_path: Path) -> None:
    """What robustkit wrote is what it makes itself, to the last bit: stored as 8-bit images either way."""
    _copy.corrupt("digits", tmp_path / "set", suites="cifar-c-extra", layout="npy", n=20)
    asked = {**ASKED, "n": 20, "subset_size": 2, "formats": (), "corruptions": "cifar-c-extra"}
    (made,) = api.evaluate(**asked, pool=folders, out=tmp_path / "made")["pools"]
    read = api.evaluate(**asked, pool=folders, corruption_dir=tmp_path / "set", out=tmp_path / "read")["pools"][0]
    assert [one["severity"] for one in read["sets"]] == [None, 3, 3, 3, 3]
    assert [one["member_accuracy"] for one in read["sets"]] == [one["member_accuracy"] for one in made["sets"]]
    pairs = zip(read["sets"], made["sets"], strict=True)
    assert all(
        a["measures"]["mutual_information"] == pytest.approx(b["measures"]["mutual_information"]) for a, b in pairs
    )


def test_no_maps_where_none_are_asked_for(folders: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_pool_maps, "products", None)  # not called
    asked = {**ASKED, "pool_attribution": 0}
    results = api.evaluate(
        **asked, pool=[folders / "pair", folders / "single"], subset_size=2, out=tmp_path, formats=()
    )
    (one,) = results["pools"][0]["sets"]
    assert one["measures"]["attribution_variance"] == [None] * 3
    assert one["attribution_images"] == 0


def test_of_too_many_subsets_some_are_drawn(folders: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pools, "MOST", 3)
    asked = {**ASKED, "pool_attribution": 0, "subset_size": 2, "formats": ()}
    (result,) = api.evaluate(**asked, pool=folders, out=tmp_path)["pools"]
    assert (result["possible"], len(result["subsets"])) == (6, 3)
    assert result["notes"][1] == "3 of 6 subsets were drawn at random with seed 0."
    assert len(result["sets"][0]["best_member"]) == 3


def test_a_member_that_is_not_finite_costs_its_samples(
    folders: Path, members: list[Member], tmp_path: Path, digits: data.Dataset
) -> None:
    """Its first-layer weights overflow on bright images only: these are left out for all, and counted."""
    _, x, _ = digits.split("test").batch(torch.arange(N))
    bright = x.flatten(1).sum(1)
    limit = float(bright.median())

    out = tmp_path / "out"
    asked = {**ASKED, "pool_attribution": 0, "subset_size": 2, "formats": ()}
    api.evaluate(**asked, pool=folders, out=out)
    store = Store(out / "runs")
    run = next(run for run in store if run.cell.kind == "clean" and len(run.samples.member_logits) == 1)
    run.samples.member_logits[0, bright.numpy() > limit] = np.inf
    store.save(run)
    (result,) = api.report(out, formats=("md",))["pools"]
    left = int((bright > limit).sum())
    assert (result["sets"][0]["left_out"], result["sets"][0]["n"]) == (left, N - left)
    assert f"clean: {left} samples left out" in (out / "tables" / "pools.md").read_text()


def test_bad_input(folders: Path, members: list[Member], tmp_path: Path) -> None:
    def refused(match: str, *named: Path, **asked: Any) -> None:
        with pytest.raises(UserError, match=match):
            api.evaluate(**{**ASKED, "pool": list(named), "out": tmp_path / "out", **asked})
        assert not (tmp_path / "out" / "results.json").exists()

    refused("subset size 1 is out of range", folders, subset_size=1)
    refused("subset size 6 is larger than the pool, which has 5 different members", folders, subset_size=6)
    refused("subset size 5 is larger than the pool, which has 4 different members", folders, subset_size=5)
    refused("pool attribution -1 is out of range", folders, pool_attribution=-1)
    refused("pool folder '.*notes' holds no checkpoint", folders / "notes")
    refused("pool folder '.*nowhere' is not there", tmp_path / "nowhere")
    refused("--subset-size 2 has no effect without --pool", subset_size=2)
    refused("--checkpoint .* has no effect beside --pool", folders, checkpoint=folders / "pair")
    other = Member(models.build("lenet", 1, 7, {}))
    seven = save(tmp_path / "seven", [other], classes=7)
    refused("'.*seven' has 7 classes, '.*again' 10", folders, seven)
    larger = save(tmp_path / "larger", members[:1], side=9)
    refused(r"'.*larger' takes images of shape \(1, 9, 9\), '.*again' of shape \(1, 8, 8\)", folders, larger)
    (tmp_path / "half").mkdir()
    (tmp_path / "half" / "ensemble.json").write_text("{}")
    refused("is not a robustkit checkpoint", tmp_path / "half")


def test_checkpoints_that_are_the_same(folders: Path, tmp_path: Path) -> None:
    copy = save(tmp_path / "copy", list(load_ensemble(folders / "pair").members))
    found = pool.find([folders / "pair", folders / "single", folders / "pair", copy], 2)
    assert [path.name for path in found.folders] == ["pair", "single"]
    assert found.doubles == (
        "checkpoint 'pair' is named twice and counts once",
        "checkpoint 'copy' is the same as 'pair' and counts once",
    )


def test_from_the_command_line(folders: Path, tmp_path: Path) -> None:
    words = ["evaluate", "--pool", folders / "pair", "--pool", folders / "single", "--subset-size", 2]
    words += ["--pool-attribution", 0, "--n", 20, "--device", "cpu", "--out", tmp_path]
    code, printed, error = invoke(*words)
    assert code == 0, error
    found = json.loads((tmp_path / "results.json").read_text())["pools"][0]
    said = " ".join(printed.split())
    assert "Pool of 3 members: 3 subsets of 2; most often right on clean: " in said
    best = max(max(rule["accuracy"]) for rule in found["sets"][0]["rules"])
    assert f"), {100 * best:.1f} %." in said
    assert found["subsets"] == [[0, 1], [0, 2], [1, 2]]
