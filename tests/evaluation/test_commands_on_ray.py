"""Every command that has ``--executor``, on a real instance of Ray: the numbers of threads."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import PIL.Image
import pytest
import torch
from in_process import invoke
from test_everything_on_ray import numbers
from test_travelling_code import networks

from robustkit import api
from robustkit.base.errors import UserError
from robustkit.corruptions import _copy
from robustkit.ensembles.checkpoint import read_meta
from robustkit.evaluation.executors import _in_common
from robustkit.evaluation.executors._cluster import Cluster
from robustkit.evaluation.executors._in_common import in_common
from robustkit.reproduce import runner

FEW: dict[str, Any] = {"dataset": "digits", "arch": "lenet", "members": 2, "epochs": 1, "speed": "off"}
QUICK: dict[str, Any] = {"n": 24, "device": "cpu", "speed": "off", "formats": (), "trust": "off", "eps": "0.1"}


@pytest.fixture(autouse=True)
def one_thread(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Weights depend on the number of threads, and a piece has one CPU."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="module")
def instance(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """One instance for all that follows, as a grid has it."""
    pytest.importorskip("ray")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("HOME", str(tmp_path_factory.mktemp("home")))
        with in_common([SimpleNamespace(executor="ray")]):
            yield


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory, instance: None) -> Path:
    """Two seeds, trained side by side on Ray; the same from threads lie in ``local``."""
    base, before = tmp_path_factory.mktemp("trained"), torch.get_num_threads()
    torch.set_num_threads(1)
    with pytest.MonkeyPatch.context() as patch:
        for name in ("local", "ray"):
            patch.setenv("ROBUSTKIT_CACHE", str(base / f"cache-{name}"))
            api.train(**FEW, defense="baseline", seeds="0,1", executor=name, out=base / name)
    torch.set_num_threads(before)
    return base


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ROBUSTKIT_CACHE", str(tmp_path / "cache"))


def differing(one: Any, other: Any, at: str = "") -> list[str]:
    """Return where two results differ."""
    if isinstance(one, dict) and isinstance(other, dict):
        names = {**one, **other}.keys() - {"advice"}  # what is to be typed next names the executor too
        return [line for name in names for line in differing(one.get(name), other.get(name), f"{at}/{name}")]
    if isinstance(one, list) and isinstance(other, list) and len(one) == len(other):
        return [line for i, (a, b) in enumerate(zip(one, other, strict=True)) for line in differing(a, b, f"{at}/{i}")]
    return [] if one == other else [f"{at}: {one} {other}"]


def equal(run: Any, out: Path) -> Any:
    """Run with threads and on Ray, and compare all but times; return the results."""
    found = []
    for name in ("local", "ray"):
        run(executor=name, workers=1, out=out / name)
        found.append(json.loads((out / name / "results.json").read_text()))
        del found[-1]["run"]
    nodes = found[1].pop("nodes", [])
    assert {one["node"] for one in nodes} <= {"node-1"}
    assert differing(numbers(found[0]), numbers(found[1])) == []
    return {**found[1], "nodes": nodes}


def test_seeds_are_trained_there_and_come_back_whole(trained: Path):
    for seed in (0, 1):
        local, there = (read_meta(trained / name / f"baseline-seed{seed}") for name in ("local", "ray"))
        assert there["weights_sha256"] == local["weights_sha256"]
        assert numbers(there["history"]) == numbers(local["history"])
        assert (trained / "ray" / f"baseline-seed{seed}" / "history.csv").is_file()


def test_audit(trained: Path, tmp_path: Path):
    model = trained / "ray" / "baseline-seed0"

    def run(**where: Any) -> Any:
        return api.audit(
            model, "digits", attacks="fgsm", suites="attacks,calibration", reference=False, **QUICK, **where
        )

    assert equal(run, tmp_path)["nodes"]


def test_a_pool_with_a_published_set_that_only_the_driver_can_read(trained: Path, tmp_path: Path):
    _copy.corrupt("digits", tmp_path / "set", suites="cifar-c-extra", layout="npy", n=24)

    def run(**where: Any) -> Any:
        asked = {"corruptions": "cifar-c-extra", "corruption_dir": tmp_path / "set", "pool_attribution": 12}
        return api.evaluate(
            dataset="digits", pool=trained / "ray", n=24, device="cpu", speed="off", formats=(), **asked, **where
        )

    assert len(equal(run, tmp_path)["pools"][0]["sets"]) == 5


def test_frost_that_only_the_driver_can_read(trained: Path, tmp_path: Path):
    (tmp_path / "frost").mkdir()
    for i in range(5):
        pixels = np.random.default_rng(i).integers(0, 256, (200, 240, 3), np.uint8)
        PIL.Image.fromarray(pixels).save(tmp_path / "frost" / f"frost{i}.png")

    def run(**where: Any) -> Any:
        asked = {"suites": "corruptions", "corruptions": "cifar-c", "frost_dir": tmp_path / "frost"}
        model = trained / "ray" / "baseline-seed0"
        return api.evaluate(dataset="digits", checkpoint=model, **{**QUICK, "eps": None}, **asked, **where)

    found = equal(run, tmp_path)
    assert found["nodes"]
    assert {level["corruption"] for level in found["corruptions"][0]["levels"]} >= {"frost", "fog"}


def test_candidates_of_a_search(instance: None, tmp_path: Path):
    settings = {"random.candidates": 2, "random.nodes": 4, "random.width": 4, "train.batch_size": 512}
    weights = []
    for name in ("local", "ray"):
        with pytest.MonkeyPatch.context() as patch:
            patch.setenv("ROBUSTKIT_CACHE", str(tmp_path / f"cache-{name}"))
            api.search(
                "random", dataset="digits", members=1, epochs=1, device="cpu", speed="off", settings=settings,
                workers=1, executor=name, out=tmp_path / name,
            )  # fmt: skip
        weights.append(read_meta(tmp_path / name)["weights_sha256"])
    assert weights[0] == weights[1]


@pytest.mark.long
def test_networks_of_a_file_are_trained_audited_and_attacked_there(instance: None, tmp_path: Path):
    few = {**FEW, "arch": f"{networks(tmp_path, 'nets.py')}:net"}
    found = []
    for name in ("local", "ray"):
        with pytest.MonkeyPatch.context() as patch:
            patch.setenv("ROBUSTKIT_CACHE", str(tmp_path / f"cache-{name}"))
            api.train(**few, defense="baseline", seeds="0,1", executor=name, out=tmp_path / name)
        found.append([read_meta(tmp_path / name / f"baseline-seed{at}")["weights_sha256"] for at in (0, 1)])
    assert found[0] == found[1]

    def audit(**where: Any) -> Any:
        model, arch = tmp_path / "ray" / "baseline-seed0", few["arch"]
        return api.audit(model, "digits", arch=arch, attacks="fgsm,pgd", **QUICK, **where)

    def evaluate(**where: Any) -> Any:
        return api.evaluate(**{**few, **QUICK}, defense="baseline", attacks="fgsm", suites="attacks,transfer", **where)

    assert equal(audit, tmp_path / "audit")["nodes"]
    assert equal(evaluate, tmp_path / "evaluate")["nodes"]


@pytest.mark.long
def test_a_grid_over_a_file_of_networks(instance: None, tmp_path: Path):
    nets = networks(tmp_path, "nets.py")
    for name in ("local", "ray"):
        path = tmp_path / f"{name}.toml"
        path.write_text(
            f'command = "train"\narch = "{nets}:net"\nmembers = [1, 2]\ndefense = "baseline"\nepochs = 1\n'
            f'speed = "off"\nexecutor = "{name}"\n',
            "utf-8",
        )
        with pytest.MonkeyPatch.context() as patch:
            patch.setenv("ROBUSTKIT_CACHE", str(tmp_path / f"cache-{name}"))
            code, _, err = invoke("run", path, "--out", tmp_path / name)
        assert code == 0, err
    made = [sorted((tmp_path / name).glob("*/ensemble.json")) for name in ("local", "ray")]
    assert len(made[0]) == 2
    hashes = [[read_meta(path.parent)["weights_sha256"] for path in paths] for paths in made]
    assert hashes[0] == hashes[1]


def test_a_paper(instance: None, tmp_path: Path):
    found = []
    for name in ("local", "ray"):
        with pytest.MonkeyPatch.context() as patch:
            patch.setenv("ROBUSTKIT_CACHE", str(tmp_path / f"cache-{name}"))
            done = runner.reproduce(
                "adp-figure2", dataset="digits", stands_for="cifar10", epochs=1, arch="lenet", n=12, workers=1,
                device="cpu", settings=["train.batch_size=512"], executor=name, out=tmp_path / name,
            )  # fmt: skip
        found.append(json.loads(json.dumps(done.to_json()))["comparisons"])
    assert found[0]
    # Which way to train is the faster one is tried by the clock, on both sides: ways differ in the last bits, of which
    # an epoch makes a thousandth. That numbers are equal bit by bit is shown by evaluations, whose trial can be off.
    for here, there in zip(*found, strict=True):
        assert there.pop("ours") == pytest.approx(here.pop("ours"), rel=0.02)
        assert here == there


def test_a_grid_has_one_instance(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    ray = pytest.importorskip("ray")
    monkeypatch.setenv("HOME", str(tmp_path))
    lent = ray.is_initialized()  # by the tests above, where this process has run them
    began, start = [], Cluster._start
    monkeypatch.setattr(Cluster, "_start", lambda self, cpus: (began.append(self), start(self, cpus)))
    path = tmp_path / "study.toml"
    path.write_text(
        'command = "train"\narch = "lenet"\nmembers = [1, 2]\ndefense = "baseline"\nepochs = 1\nexecutor = "ray"\n',
        "utf-8",
    )
    code, _, err = invoke("run", path, "--out", tmp_path / "out")
    assert code == 0, err
    assert sorted(place.parent.name for place in (tmp_path / "out").glob("*/ensemble.json")) == ["digits-1", "digits-2"]
    assert len(began) == (not lent)
    assert ray.is_initialized() == lent


@pytest.mark.parametrize("named", [["ray", "ray"], ["auto", "ray"], ["local", "local"], ["ray", "local"]])
def test_a_cluster_is_joined_once_where_all_runs_name_one(named: list[str], monkeypatch: pytest.MonkeyPatch):
    seen: list[str] = []
    monkeypatch.setattr(_in_common, "read", lambda text: SimpleNamespace(text=text, remote=text != "local"))
    monkeypatch.setattr(
        _in_common, "Cluster", lambda address: SimpleNamespace(close=lambda: seen.append(f"{address.text} left"))
    )
    with in_common([SimpleNamespace(executor=name) for name in named]):
        assert seen == []
    assert seen == (["ray left"] if set(named) == {"ray"} else [])


def test_torchrun_and_ray_are_not_for_one_training(monkeypatch: pytest.MonkeyPatch):
    pytest.importorskip("ray")
    monkeypatch.setenv("WORLD_SIZE", "2")
    with pytest.raises(UserError, match="--executor ray trains in processes of Ray, but torchrun has started its own"):
        api.train(**FEW, executor="ray")
