"""Elastic networks: shared weights, what is taken out of them, how they shrink, and which subnetworks are chosen."""

from __future__ import annotations

import itertools
import json
import random
import sys
from pathlib import Path

import pytest
import torch

from robustkit import api, data, models
from robustkit.base.errors import UserError
from robustkit.base.progress import Reporter
from robustkit.ensembles.checkpoint import load_ensemble, save_ensemble
from robustkit.ensembles.ensemble import Ensemble, Member
from robustkit.models._elastic import Lists, Space
from robustkit.search import _choosing, get
from robustkit.search._elastic import EXPANSIONS, LISTING_1, decoded, drawn, encoded, largest, params, smallest
from robustkit.search._lab import SearchLab
from robustkit.search._sharing import Supernet, calibrated, complexity_of
from robustkit.search._shrinking import Recipe, Shrinking
from robustkit.search.supernet import Judge

SMALL = Space((8, 16), deepest=1)
QUICK = Recipe(
    warm=1, shrinking=7, lr=0.02, shrinking_lr=0.02, batch_size=200, weight_decay=1e-4, shift=0.0, subnetworks=1
)


def lab(folder: Path, **asked: object) -> SearchLab:
    device = torch.device("cpu")
    return SearchLab(
        data.load("digits"), members=3, seed=0, device=device, folder=folder, reporter=Reporter(), asked=asked
    )


def untrained(space: Space = SMALL, channels: int = 1) -> Supernet:
    """A supernet with weights and statistics of batch norm that are not those of the start."""
    torch.manual_seed(0)
    net = Supernet(space, channels, 10)
    for name, tensor in net.network.state_dict().items():
        if "running" in name or "bn" in name:
            tensor.copy_(torch.rand(tensor.shape) + 0.5)
    return net


def some(space: Space, count: int) -> list[Lists]:
    numbers = random.Random(0)
    return [largest(space), smallest(space), *(drawn(space, LISTING_1[-1], numbers) for _ in range(count))]


@pytest.mark.parametrize(("channels", "side"), [(1, 8), (3, 32)])
@torch.no_grad()
def test_a_subnetwork_of_full_size_is_the_supernet(channels: int, side: int):
    net = untrained(channels=channels).eval()
    x = torch.rand(3, channels, side, side)
    assert torch.equal(net(x, largest(SMALL)), net.network(x))


@torch.no_grad()
def test_what_is_taken_out_is_the_shared_weights_and_computes_the_same(tmp_path: Path):
    net, x = untrained().eval(), torch.rand(5, 1, 8, 8)
    for at, lists in enumerate(some(SMALL, 8)):
        network, shared = net.extracted(lists), net.shared(lists)
        own = network.state_dict()
        assert list(own) == list(models.build("elastic-resnet", 1, 10, params(SMALL, lists)).state_dict())
        whole = net.network.state_dict()
        for name, tensor in own.items():
            assert torch.equal(tensor, shared[name])
            assert torch.equal(tensor, whole[name][tuple(slice(0, size) for size in tensor.shape)])
            assert tensor.untyped_storage().data_ptr() != whole[name].untyped_storage().data_ptr()
        assert torch.equal(network(x), net(x, lists))
        assert complexity_of(net, lists, (1, 8, 8))["parameters"] == sum(p.numel() for p in network.parameters())
        save_ensemble(
            Ensemble([Member(network)]), tmp_path / str(at), arch=["elastic-resnet"], classes=list("0123456789"),
            shape=(1, 8, 8), arch_params=[params(SMALL, lists)],
        )  # fmt: skip
        assert torch.equal(load_ensemble(tmp_path / str(at)).members[0](x), net(x, lists))


def test_gradients_arrive_in_the_channels_that_a_subnetwork_has():
    net, lists, x = untrained().double().train(), smallest(SMALL), torch.rand(4, 1, 8, 8, dtype=torch.float64)
    alone = net.extracted(lists).double().train()
    net(x, lists).square().sum().backward()
    alone(x).square().sum().backward()
    sizes = {name: tensor.shape for name, tensor in net.shared(lists).items()}
    for name, parameter in net.network.named_parameters():
        if name not in sizes:
            assert parameter.grad is None  # a block that is not there
            continue
        inside = torch.zeros_like(parameter)
        inside[tuple(slice(0, size) for size in sizes[name])] = alone.get_parameter(name).grad
        torch.testing.assert_close(parameter.grad, inside, rtol=1e-9, atol=1e-12)


def test_statistics_of_the_whole_network_alone_are_left_behind():
    net = untrained().train()
    before = {name: tensor.clone() for name, tensor in net.network.named_buffers() if "running" in name}
    net(torch.rand(4, 1, 8, 8), smallest(SMALL))
    assert all(torch.equal(net.network.state_dict()[name], tensor) for name, tensor in before.items())
    net(torch.rand(4, 1, 8, 8), largest(SMALL))
    assert not any(torch.equal(net.network.state_dict()[name], tensor) for name, tensor in before.items())


@torch.no_grad()
def test_reorganised_channels_stand_in_the_order_of_what_reads_them():
    net, x = untrained().double().eval(), torch.rand(5, 1, 8, 8, dtype=torch.float64)
    before = net(x, largest(SMALL))
    net.reorganise()
    torch.testing.assert_close(net(x, largest(SMALL)), before, rtol=1e-9, atol=1e-9)
    inside = net.network.get_parameter("layer2.1.conv2.weight").abs().sum((0, 2, 3))
    last = net.network.linear.weight.abs().sum(0)
    last = last + net.network.get_parameter("layer2.1.conv1.weight").abs().sum((0, 2, 3))
    for importance in (inside, last):
        assert (importance.diff() <= 1e-9).all()


def test_stages_of_listing_1_allow_more_and_more():
    space, numbers = Space(), random.Random(0)
    plan = Recipe(3, 33, 1, 1, 64, 0, 0, 2).epochs()
    assert [(s.removed, s.narrower, count) for s, at, count in plan if at == 0] == [
        (0, 1, 3), (1, 1, 5), (2, 1, 8), (2, 2, 10), (2, 3, 10),
    ]  # fmt: skip
    assert [at for _, at, _ in plan] == [*range(3), *range(5), *range(8), *range(10), *range(10)]
    for stage in LISTING_1:
        of_stage = [drawn(space, stage, numbers) for _ in range(100)]
        assert {d for lists in of_stage for d in lists.depth} == set(range(2 - stage.removed, 3))
        assert {w for lists in of_stage for w in lists.width} == set(range(3 - stage.narrower, 3))
        assert {e for lists in of_stage for e in lists.expansion} == set(EXPANSIONS[-stage.narrower :])
    assert smallest(space) == Lists((0, 0, 0), (0, 0, 0, 0), (0.5, 1.0, 1.0) * 3)  # of blocks that are not there: 1
    assert [decoded(space, encoded(lists)) for lists in some(space, 20)] == some(space, 20)


@pytest.fixture(scope="module")
def shrunk(tmp_path_factory: pytest.TempPathFactory) -> Shrinking:
    training = Shrinking(lab(tmp_path_factory.mktemp("shrunk")), untrained(), QUICK)
    training.run(training.lab.checkpoint("supernet"))
    return training


def test_shrinking_teaches_the_small_and_calibration_does_not_hurt_them(shrunk: Shrinking):
    judge, lists = Judge.of(shrunk.lab, shrunk.net, "parameters"), smallest(SMALL)
    facts = judge.facts(lists)
    assert facts["validation_accuracy"] == 1 - judge.error(lists)
    assert facts["validation_accuracy"] >= facts["uncalibrated_accuracy"] + 0.2  # measured: .58 and .1
    assert facts["validation_accuracy"] > 0.4  # guessing is .1
    assert judge.facts(largest(SMALL))["validation_accuracy"] > 0.8
    assert [row["narrower"] for row in shrunk.history] == [1] * 4 + [2] * 2 + [3] * 2
    assert set(shrunk.history[-1]) == {"removed", "narrower", "largest", "smallest", "drawn"}


def test_calibrated_statistics_are_those_of_the_images(shrunk: Shrinking):
    network = shrunk.net.extracted(smallest(SMALL))
    x = torch.rand(100, 1, 8, 8)
    seen: list[torch.Tensor] = []
    network.bn1.register_forward_pre_hook(lambda _, given: seen.append(given[0]))
    calibrated(network, x)
    torch.testing.assert_close(network.bn1.running_mean, seen[0].mean((0, 2, 3)), rtol=1e-4, atol=1e-5)
    assert not network.training
    assert network.bn1.momentum == 0.1


def test_a_training_killed_at_its_last_epoch_ends_as_if_nothing_had_been(
    shrunk: Shrinking, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr("robustkit.search._shrinking.BETWEEN_SAVES", 0.0)
    real = Shrinking._epoch

    def killed(self: Shrinking, *given: object) -> dict[str, float]:
        if len(self.history) == QUICK.warm + QUICK.shrinking - 1:
            raise KeyboardInterrupt
        return real(self, *given)

    monkeypatch.setattr(Shrinking, "_epoch", killed)
    first = Shrinking(lab(tmp_path), untrained(), QUICK)
    with pytest.raises(KeyboardInterrupt):
        first.run(first.lab.checkpoint("supernet"))
    monkeypatch.setattr(Shrinking, "_epoch", real)
    trained: list[int] = []
    monkeypatch.setattr(Shrinking, "_epoch", lambda self, *given: (trained.append(1), real(self, *given))[1])
    torch.manual_seed(7)
    again = Shrinking(lab(tmp_path), Supernet(SMALL, 1, 10), QUICK)
    assert again.run(again.lab.checkpoint("supernet")) == shrunk.history
    assert len(trained) == 1
    for name, tensor in shrunk.net.state_dict().items():
        assert torch.equal(again.net.state_dict()[name], tensor), name
    with pytest.raises(UserError, match="differs in seed: 1, there None"):
        lab(tmp_path, seed=1).checkpoint("supernet").load()


class Wide:
    """An error that falls with every width, so that the best subnetworks are known."""

    def __init__(self) -> None:
        self.asked: list[Lists] = []

    def error(self, lists: Lists) -> float:
        self.asked.append(lists)
        return 1 - sum(lists.width) / 100 - sum(lists.expansion) / 1000

    def complexity(self, lists: Lists) -> float:
        return 1 + sum(lists.width) + 2 * sum(lists.depth)


def archive(folder: Path, judge: Wide) -> _choosing.Archive:
    return _choosing.Archive(Space(), judge.error, judge.complexity, lab(folder).checkpoint("subnetworks"))


def test_nsga_finds_the_front_and_the_families_of_table_ii(tmp_path: Path):
    pytest.importorskip("pymoo", reason="NSGA-II is pymoo's: pip install pymoo")
    judge = Wide()
    kept = archive(tmp_path, judge)
    _choosing.search(kept, 200, 20, 0)
    ends = [(one.error, one.share) for one in kept.front()]
    assert min(share for _, share in ends) == pytest.approx(1 / 21)  # the smallest network
    assert all(a[0] > b[0] or a[1] > b[1] for a, b in itertools.permutations(ends, 2) if a != b)
    chosen = _choosing.of_one_complexity(kept, 11, 0.5, 0.2)
    assert list(chosen) == [
        "B_0", "B_1", "nB_0", "nB_1", "nB_2", "nB_3", "dB_1a", "dB_1b", "wB_1a", "wB_1b", "wB_1c",
    ]  # fmt: skip
    assert len({one.lists for one in chosen.values()}) == 11
    base = chosen["B_1"].lists
    for name, one in chosen.items():
        assert abs(one.share / 0.5 - 1) <= 0.45
        same = (one.lists.depth == base.depth, one.lists.width == base.width)
        assert name[0] == "B" or same == {"n": (True, True), "d": (False, True), "w": (True, False)}[name[0]]
    again = archive(tmp_path, other := Wide())
    _choosing.search(again, 200, 20, 0)
    assert not other.asked  # all of it was kept
    assert again.seen == {lists: one for lists, one in kept.seen.items() if lists in again.seen}
    of_three = _choosing.of_complexities(kept, [0.2, 0.5, 1.0])
    assert list(of_three) == ["C_0.2", "C_0.5", "C_1"]
    assert [one.share <= target for one, target in zip(of_three.values(), (0.2, 0.5, 1.0), strict=True)] == [True] * 3


def named(facts: dict) -> Lists:
    return Lists(*(tuple(facts[name]) for name in ("depth", "width", "expansion")))


TINY = [
    "supernet.pretraining=1", "supernet.epochs=1", "supernet.widths=3,5", "supernet.batch_size=512",
    "supernet.evaluations=6", "supernet.population=4", "supernet.subnetworks=5",
]  # fmt: skip


def test_a_whole_search_is_a_pool_of_its_subnetworks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    pytest.importorskip("pymoo", reason="NSGA-II is pymoo's: pip install pymoo")
    monkeypatch.setattr(_choosing, "TRIED", 5)
    out = tmp_path / "found"
    record = api.search("supernet", dataset="digits", settings=TINY, out=out, device="cpu")
    names = [row["name"] for row in record["candidates"]]
    assert names == ["B_0", "B_1", "nB_0", "dB_1a", "wB_1a"]
    assert len({json.dumps(Space((3, 5)).sizes(named(row["facts"]))) for row in record["candidates"]}) == 5
    for row in record["candidates"]:
        own = load_ensemble(out / "candidates" / row["name"])
        assert sum(p.numel() for p in own.parameters()) == row["facts"]["parameters"]
        assert own.members[0].network.lists.depth == tuple(row["facts"]["depth"])
    results = api.evaluate(
        pool=[out], subset_size=3, dataset="digits", n=40, pool_attribution=0, out=tmp_path / "e", device="cpu",
        formats=(), reference=False,
    )  # fmt: skip
    assert len(results["pools"][0]["subsets"]) == results["pools"][0]["possible"] == 10
    assert [m["arch"] for m in results["pools"][0]["members"]] == ["elastic-resnet"] * 5
    chosen = load_ensemble(out)
    assert len(chosen) == 3
    again = api.search("supernet", dataset="digits", settings=TINY, out=out, device="cpu")
    assert again["chosen"] == record["chosen"]
    assert json.loads((out / "search.json").read_text())["candidates"] == json.loads(json.dumps(record["candidates"]))


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"depth": [0, 1]}, r"depth \[0, 1\] has 2 numbers; give 3, one for each stage"),
        ({"depth": [0, 1, 3]}, r"depth \[0, 1, 3\] holds 3; each must be in \[0, 2\]"),
        ({"depth": [0, 1.5, 1]}, r"holds 1.5; each must be a whole number"),
        ({"width": [2, 2, 2]}, r"width \[2, 2, 2\] has 3 numbers; give 4, one for the stem and each stage"),
        ({"width": [2, 2, 2, -1]}, r"holds -1; each must be in \[0, 2\]"),
        ({"expansion": [0.5] * 8}, "has 8 numbers; give as many for each of 3 stages"),
        ({"expansion": [0.0] * 9}, "holds a 0; each must be above 0"),
        ({"widths": [16, 0, 64]}, "are not channels of stages"),
        ({"multipliers": [1.0, 0.5]}, "do not ascend from above 0 to 1"),
    ],
)
def test_lists_that_do_not_fit_are_one_sentence(changed: dict, message: str):
    with pytest.raises(UserError, match=message) as error:
        models.build("elastic-resnet", 1, 10, changed)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"widths": "16,x"}, "supernet.widths '16,x' is not a list of channels; write it like 16,32,64"),
        ({"widths": "4,4,4,4"}, "images of 8x8 pixels are too small for 4 stages, which need 16x16"),
        ({"complexity": 1.5}, "supernet.complexity 1.5 is not a share"),
        ({"complexities": ".5,2"}, "are not different shares"),
        ({"subnetworks": 2}, "2 subnetworks are fewer than 3 members; raise supernet.subnetworks"),
        ({"complexities": ".2,.4"}, "2 subnetworks are fewer than 3 members; .* name more supernet.complexities"),
        ({"evaluations": 0}, "supernet.evaluations 0 is out of range; it must be at least 1"),
    ],
)
def test_a_search_that_cannot_be_is_refused_before_any_training(tmp_path: Path, changed: dict, message: str):
    pytest.importorskip("pymoo", reason="NSGA-II is pymoo's: pip install pymoo")
    with pytest.raises(UserError, match=message):
        get("supernet")(lab(tmp_path), **changed)


def test_without_pymoo_one_sentence_says_how_it_is_installed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setitem(sys.modules, "pymoo", None)
    with pytest.raises(UserError, match=r"needs pymoo for NSGA-II; install it with: .*pip install.*\[search\]"):
        get("supernet")(lab(tmp_path))
