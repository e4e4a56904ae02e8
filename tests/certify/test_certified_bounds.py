from __future__ import annotations

import copy
import importlib.util
from collections import Counter

import pytest
import torch
from certified_models import Mixed, Plain, mixed
from torch import nn

from robustkit.base.errors import UserError
from robustkit.certify import branching, reading
from robustkit.certify.bounds import Bounded, bound
from robustkit.certify.branching import settle
from robustkit.certify.fusing import Effort, certify, slack_of
from robustkit.certify.region import Region
from robustkit.certify.slopes import ascend, of_inner_layers

EPS = {"linf": 0.05, "l2": 0.3, "l1": 1.0}


def images(n: int, side: int = 8, seed: int = 0) -> torch.Tensor:
    return torch.rand(n, 1, side, side, generator=torch.Generator().manual_seed(seed))


def within(x: torch.Tensor, eps: float, norm: str, draws: int) -> torch.Tensor:
    """Return images of the region (draws, B, C, H, W), many of them at its border."""
    step = torch.randn(draws, *x.shape, dtype=x.dtype, generator=torch.Generator().manual_seed(1))
    if norm == "linf":
        step = eps * torch.where(torch.rand_like(step) < 0.5, step.sign(), step.clamp(-1, 1))
    else:
        flat = step.flatten(2)
        if norm == "l1":  # few pixels, of which some take all of the budget
            flat = flat * (flat.abs() >= flat.abs().topk(2, dim=-1).values[..., -1:])
        size = torch.linalg.vector_norm(flat, ord=1 if norm == "l1" else 2, dim=-1, keepdim=True)
        step = (eps * flat / size).view_as(step)
    return (x + step).clamp(0, 1)


@pytest.mark.parametrize("norm", ["linf", "l2", "l1"])
@pytest.mark.parametrize("network", ["mixed", "plain"])
def test_no_image_of_the_region_is_below_a_bound(norm: str, network: str):
    x = images(6)
    net = (Mixed(0) if network == "mixed" else Plain(1, 64, 20, 12, 4)).eval()
    graph = reading.read([net], x)
    region = Region(x.double(), EPS[norm], norm)
    found = bound(graph, region, of_inner_layers(5))
    a = torch.randn(7, 6, 4, dtype=torch.float64, generator=torch.Generator().manual_seed(3))
    outputs = {graph.outputs[0]: a}
    plain, better = found.lower(outputs), ascend(found, outputs, 15).value
    tried = within(x.double(), EPS[norm], norm, 400)
    values = net.double()(tried.flatten(0, 1)).view(400, 6, 4)
    least = torch.einsum("sbl,dbl->sbd", a, values).amin(-1)
    assert bool((plain <= least + 1e-9).all())
    assert bool((better <= least + 1e-9).all())
    assert float((torch.maximum(plain, better) - plain).mean()) > 0  # slopes are worth something
    for at, (low, high) in found.inner.items():  # of every layer, not of the last one alone
        source = graph.nodes[at].inputs[0]
        seen = graph.values(tried.flatten(0, 1))[source].view(400, 6, *graph.nodes[source].shape)
        assert bool((low <= seen + 1e-9).all())
        assert bool((seen <= high + 1e-9).all())


def test_a_linear_network_is_bounded_exactly():
    x = images(5)
    net = Plain(0, 64, 3)
    graph = reading.read([net], x)
    low, high = (x.double() - 0.1).clamp_min(0), (x.double() + 0.1).clamp_max(1)
    weight, bias = net[1].weight.double(), net[1].bias.double()
    least = low.flatten(1) @ weight.clamp_min(0).T + high.flatten(1) @ weight.clamp_max(0).T + bias
    a = torch.eye(3, dtype=torch.float64)[:, None].expand(3, 5, 3)
    found = bound(graph, Region(x.double(), 0.1, "linf")).lower({graph.outputs[0]: a})
    torch.testing.assert_close(found.T, least.detach(), rtol=1e-12, atol=1e-12)


def test_a_hidden_layer_is_bounded_as_by_hand():
    """One pixel in [0.2, 0.6], z = x - 0.4 in [-0.2, 0.2], relu(z) in its triangle: -relu(z) >= -(z + 0.2) / 2."""
    net = Plain(0, 1, 1, 1)
    for layer, weight, bias in ((net[1], 1.0, -0.4), (net[3], -1.0, 0.0)):
        nn.init.constant_(layer.weight, weight)
        nn.init.constant_(layer.bias, bias)
    x = torch.full((1, 1, 1, 1), 0.4)
    graph = reading.read([net], x)
    a = torch.ones(1, 1, 1, dtype=torch.float64)
    found = bound(graph, Region(x.double(), 0.2, "linf"))
    assert float(found.lower({graph.outputs[0]: a})) == pytest.approx(-0.2, abs=1e-7)
    assert float(ascend(found, {graph.outputs[0]: -a}, 30).value) == pytest.approx(0.0, abs=1e-3)  # alpha = 0


@pytest.mark.skipif(importlib.util.find_spec("bound_propagation") is None, reason="bound-propagation is not installed")
def test_as_tight_as_the_library_on_linear_layers():
    import bound_propagation as library

    x, net = images(4), Plain(2, 64, 24, 16, 5)
    graph = reading.read([net], x)
    region = Region(x.double(), 0.04, "linf")
    a = torch.eye(5, dtype=torch.float64)[:, None].expand(5, 4, 5)
    ours = bound(graph, region).lower({graph.outputs[0]: a}).T
    model = library.BoundModelFactory(adaptive_relu=True).build(nn.Sequential(*list(net.children())[1:]).double())
    low, high = region.interval()
    theirs = model.crown(library.HyperRectangle(low.flatten(1), high.flatten(1))).concretize().lower
    assert float((ours - theirs.detach()).min()) > -1e-6


def test_cases_prove_what_bounds_leave_open():
    x = images(24, seed=5)
    net = Plain(4, 64, 20, 14, 3).eval().requires_grad_(False)
    net[5].bias -= net(x).mean(0)  # all classes are answered
    y = net(x).argmax(1)
    graph = reading.read([net], x)
    found = bound(graph, Region(x.double(), 0.03, "linf"), of_inner_layers(5))
    own = nn.functional.one_hot(y, 3).double()
    rivals = torch.stack([torch.tensor([k for k in range(3) if k != int(t)]) for t in y], 1)
    wanted = own[None] - nn.functional.one_hot(rivals, 3).double()
    known = ascend(found, {graph.outputs[0]: wanted}, 10).value
    proven = settle(found, wanted, torch.ones(1, dtype=torch.float64), known, 300, 8, 1e-6)
    tried = within(x.double(), 0.03, "linf", 500)
    right = (net.double()(tried.flatten(0, 1)).view(500, 24, 3).argmax(-1) == y).all(0)
    assert bool((proven >= (known > 1e-6)).all())
    assert int(proven.all(0).sum()) > int((known > 1e-6).all(0).sum())
    assert not bool((proven.all(0) & ~right).any())


def test_a_relu_is_split_that_is_relaxed_where_the_bound_is_reached():
    """Eight ReLUs that cost most elsewhere, and one, of x0 - x1 in [-1, 1], that costs 1/2 where the bound is least."""
    net = nn.Sequential(nn.Flatten(), nn.Linear(10, 10), nn.ReLU(), nn.Linear(10, 2)).requires_grad_(False)
    for part in net.parameters():
        part.zero_()
    net[1].weight[0, :2] = torch.tensor([1.0, -1.0])
    net[1].weight[1, 0] = 1.0  # x0 itself, never below zero
    net[1].weight[2:, 2:] = torch.eye(8)
    net[1].bias[2:] = -0.5
    net[3].weight[0] = torch.tensor([-1.0, 0.6] + [-3.0] * 8)
    net[3].bias[0] = 8 * 1.5 + 0.45  # at least 0.05: all eight at their largest, and 0.6 - 1
    x = torch.full((1, 1, 2, 5), 0.5)
    graph = reading.read([net], x)
    found = bound(graph, Region(x.double(), 0.5, "linf"))
    wanted = torch.tensor([[[1.0, -1.0]]], dtype=torch.float64)
    known = ascend(found, {graph.outputs[0]: wanted}, 10).value
    assert float(known) == pytest.approx(-0.05, abs=1e-3)
    weights = torch.ones(1, dtype=torch.float64)
    assert bool(settle(found, wanted, weights, known, 3, 8, 1e-6))  # one split, of the nine that there are


def _hard() -> tuple[nn.Module, torch.Tensor, torch.Tensor]:
    """Return a network and images of which some take more than 200 cases."""
    torch.manual_seed(0)
    net = nn.Sequential(
        nn.Conv2d(3, 4, 3, padding=1),
        nn.ReLU(),
        nn.Conv2d(4, 4, 3, padding=1),
        nn.ReLU(),
        nn.Flatten(),
        nn.Linear(64, 3),
    ).requires_grad_(False)
    x = torch.rand(6, 3, 4, 4)
    return net.eval(), x, net(x).argmax(1)


def test_the_layout_of_the_weights_changes_nothing():
    net, x, y = _hard()
    region = Region(x.double(), 0.1, "linf")
    found = []
    for layout in (torch.contiguous_format, torch.channels_last):
        graph = reading.read([net.to(memory_format=layout)], x)
        found.append(certify(graph, "mean-logit", (), region, y, Effort(cases=40), 1e-6).floor)
    torch.testing.assert_close(*found)


@pytest.mark.parametrize("most", [1, 2, 10, 50])
def test_no_sample_takes_more_cases_than_it_may(most: int, monkeypatch: pytest.MonkeyPatch):
    net, x, y = _hard()
    taken: Counter[int] = Counter()
    bounded = branching._Search.bounded

    def counted(search, cases):
        taken.update(case.sample for case in cases)
        return bounded(search, cases)

    monkeypatch.setattr(branching._Search, "bounded", counted)
    certify(reading.read([net], x), "mean-logit", (), Region(x.double(), 0.1, "linf"), y, Effort(cases=most), 1e-6)
    assert max(taken.values()) == (most if most % 2 else most - 1)  # one case, and then two for each split


def test_a_sample_is_settled_the_same_whatever_others_there_are():
    net, x, y = _hard()
    graph = reading.read([net], x)

    def floor(rows: slice) -> torch.Tensor:
        return certify(
            graph, "mean-logit", (), Region(x[rows].double(), 0.1, "linf"), y[rows], Effort(cases=60), 1e-6
        ).floor

    alone = torch.cat([floor(slice(i, i + 1)) for i in range(len(x))])
    torch.testing.assert_close(alone, floor(slice(None)))


def test_the_graph_of_an_ensemble_is_the_ensemble():
    ensemble, x = mixed(2), images(5)
    graph = reading.read(ensemble.members, x)
    with torch.no_grad():
        made = torch.stack(graph.forward(x.double()))
        torch.testing.assert_close(made.float(), ensemble.member_logits(x), rtol=1e-4, atol=1e-5)
    alone = graph.only(1).forward(x.double())[0]
    torch.testing.assert_close(alone, made[1])


class _By(nn.Module):
    def __init__(self, function) -> None:
        super().__init__()
        self.function = function

    def forward(self, x):
        return self.function(x).flatten(1)


@pytest.mark.parametrize(
    ("function", "named"),
    [
        (lambda x: torch.sigmoid(x), "sigmoid"),
        (lambda x: x * x, "mul"),
        (lambda x: x / x.amax((1, 2, 3), keepdim=True), "amax"),
        (lambda x: x if float(x.sum()) > 0 else -x, "sum"),
        (lambda x: nn.functional.layer_norm(x, x.shape[1:]), "layer_norm"),
    ],
)
def test_an_operation_without_a_bound_is_named(function, named: str):
    with pytest.raises(UserError, match=f"member 0 cannot be certified: the operation '.*{named}.*' has no bound here"):
        reading.read([_By(function)], images(2))


def overflowing() -> Plain:
    """Return a network whose logits are not numbers where the first value is above .9: as float32, infinity less it."""
    net = Plain(0, 64, 5, 6, 4)
    with torch.no_grad():
        for layer, rows in ((net[1], 4), (net[3], 4)):
            layer.weight.zero_()
            layer.bias.zero_()
            layer.weight[:rows, :rows] = torch.eye(rows)
        net[1].weight[4, 0], net[1].bias[4], net[1].bias[1] = 1e20, -0.9e20, 2
        net[3].weight[4:, 4] = torch.tensor([1e25, -1e25])
        net[5].weight.copy_(torch.cat([torch.eye(4), torch.ones(4, 2)], 1))
    return net


def test_logits_that_overflow_are_certified_nowhere():
    net, x = overflowing().eval(), torch.full((2, 1, 8, 8), 0.3)
    x[:, 0, 0, 0] = 0.89
    graph, beyond = reading.read([net], x), x.clone()
    beyond[:, 0, 0, 0] = 0.92
    assert net(x).isfinite().all()
    assert not net(beyond).isfinite().all()
    with pytest.raises(UserError, match="member 0 cannot be certified: its logits near an image are not finite"):
        slack_of(graph, nn.ModuleList([net]), x)


@pytest.mark.parametrize("rule", ["mean-logit", "mean-prob", "majority"])
def test_a_bound_that_is_no_number_proves_nothing(rule: str, monkeypatch: pytest.MonkeyPatch):
    ensemble, x = mixed(), images(2)
    graph, y = reading.read(ensemble.members, x), ensemble(x).argmax(1)
    region, effort = Region(x.double(), 1e-4, "linf"), Effort(cases=0)
    assert certify(graph, rule, (), region, y, effort, 1e-6).floor.all()
    lower = Bounded.lower
    monkeypatch.setattr(Bounded, "lower", lambda *given: lower(*given) * torch.nan)
    assert not certify(graph, rule, (), region, y, effort, 1e-6).floor.any()


def test_a_label_that_rounding_decides_is_certified_nowhere_and_refused_nowhere():
    x, differing = torch.full((1, 1, 4, 4), 0.3), 0
    for seed in range(20):
        net = Plain(seed, 16, 2)
        weight, bias = net[1].weight.data, net[1].bias.data
        weight[1], bias[1] = weight[0, torch.randperm(16)], bias[0]  # equal logits of an image of one value
        y, exact = net(x).argmax(1), copy.deepcopy(net).double()(x.double()).argmax(1)
        differing += int(y != exact)
        graph = reading.read([net], x)
        made = certify(graph, "mean-logit", (), Region(x.double(), 0.01, "linf"), y, Effort(), 1e-6)
        assert not made.floor.any()
    assert differing


def test_a_norm_without_bounds_is_refused():
    with pytest.raises(UserError, match="norm 'l0' has no certified bounds; those that have are linf, l2, l1"):
        Region(images(1).double(), 0.1, "l0")
