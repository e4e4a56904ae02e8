"""Sigma-zero, DDN, PDPGD, RayS and APGD in l1: their maths, their promises, adversarial-library's on a real network."""

from __future__ import annotations

import sys
import types

import pytest
import torch
from torch import Tensor, nn

from robustkit import attacks
from robustkit.attacks._boundary import Nearest
from robustkit.attacks._last import exchange, fewest
from robustkit.attacks._proximal import proximal
from robustkit.attacks.ddn import ddn, log_odds
from robustkit.attacks.rays import rays
from robustkit.attacks.sigma_zero import sigma_zero
from robustkit.base.errors import UserError
from robustkit.base.options import check_norm
from robustkit.functional.norms import onto_box_and_l1, size
from robustkit.functional.trace import Trace


def drawn(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


@pytest.mark.parametrize("eps", [0.01, 0.5, 2.0, 50.0])
def test_projection_onto_box_and_l1_ball_is_the_one_that_bisection_finds(eps: float):
    origin = drawn(40, 20, seed=1).sigmoid()
    origin[:, :5] = origin[:, :5].round()  # pixels at the edge
    point = origin + 0.5 * drawn(40, 20, seed=2)
    u, low = point - origin, torch.zeros(40, 1, dtype=torch.float64)
    room, high = torch.where(u > 0, 1 - origin, origin), u.abs().amax(1, keepdim=True)

    def length(t: Tensor) -> Tensor:
        return torch.minimum((u.abs() - t).clamp_min(0), room)

    for _ in range(100):
        middle = (low + high) / 2
        over = length(middle).sum(1, keepdim=True) > eps
        low, high = torch.where(over, middle, low), torch.where(over, high, middle)
    inside = length(torch.zeros_like(low)).sum(1, keepdim=True) <= eps
    expected = origin + u.sign() * length(torch.where(inside, 0.0, high))
    torch.testing.assert_close(onto_box_and_l1(point, origin, eps), expected, atol=1e-12, rtol=0)


@pytest.mark.parametrize("norm", ["l0", "l1", "l2", "linf"])
@pytest.mark.parametrize("weight", [0.0, 0.01, 0.3, 30.0])
def test_no_other_point_is_better_than_the_proximal_one(norm: str, weight: float):
    u, metric = drawn(30, 12), drawn(30, 12, seed=1).sigmoid() + 0.05
    made = proximal(u, metric, torch.full((30,), weight, dtype=torch.float64), norm)

    def objective(z: Tensor) -> Tensor:
        small = {
            "l0": lambda: z.abs().pow(2 / 3).sum(-1), "l1": lambda: z.abs().sum(-1),
            "l2": lambda: z.norm(dim=-1), "linf": lambda: z.abs().amax(-1),
        }[norm]()  # fmt: skip
        return weight * small + 0.5 * (metric * (z - u).square()).sum(-1)

    for scale in (0.3, 0.03, 0.003):
        rivals = made + scale * drawn(2000, 30, 12, seed=3) * (drawn(2000, 30, 12, seed=4) > 0)
        assert (objective(rivals) >= objective(made) - 1e-9).all()
    for rival in (u, torch.zeros_like(u)):
        assert (objective(rival) >= objective(made) - 1e-9).all()


class Saturated(nn.Module):
    """Logits so far apart that float32 rounds the likely class's probability to 1."""

    def forward(self, x: Tensor) -> Tensor:
        z = 100 * (x.flatten(1).mean(1) - 0.2)
        return torch.stack([z, torch.zeros_like(z)], 1)


def test_ddn_leaves_where_the_cross_entropy_has_no_gradient():
    x, y = torch.full((2, 1, 4, 4), 0.6), torch.zeros(2, dtype=torch.int64)
    point = x.clone().requires_grad_()
    (gradient,) = torch.autograd.grad(nn.functional.cross_entropy(Saturated()(point), y, reduction="sum"), point)
    assert not gradient.any()
    made = ddn(Saturated(), x, y, steps=100)
    torch.testing.assert_close(size(made - x, "l2"), torch.full((2,), 0.4 * 4), rtol=0.01, atol=0)


def test_log_odds_have_the_direction_of_the_cross_entropy():
    z, y = drawn(5, 4).requires_grad_(), torch.arange(5) % 4
    (ours,) = torch.autograd.grad(log_odds(z, y).sum(), z)
    (theirs,) = torch.autograd.grad(nn.functional.cross_entropy(z, y, reduction="sum"), z)
    away = 1 - z.softmax(1).gather(1, y[:, None])
    torch.testing.assert_close(ours * away, theirs)


def test_rays_needs_nothing_but_labels(network: nn.Module, test_images: tuple[Tensor, Tensor]):
    x, y = (t[:6] for t in test_images)
    asked: list[int] = []

    def labels_only(images: Tensor) -> Tensor:
        asked.append(len(images))
        with torch.no_grad():
            return nn.functional.one_hot(network(images).argmax(1), 10).to(images.dtype)

    made = rays(labels_only, x, y, queries=300)
    assert torch.equal(made, rays(network, x, y, queries=300))
    assert len(asked) == 300
    right = network(x).argmax(1) == y
    assert (network(made).argmax(1) != y)[right].all()
    corner = size(rays(network, x, y, queries=3) - x, "linf")[right]
    assert (size(made - x, "linf")[right] < 0.7 * corner).all()


def test_a_sample_that_needs_one_element_costs_sigma_zero_nothing_more():
    class OnePixel(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            z = x.flatten(1)[:, 3] - 0.5
            return torch.stack([z, torch.zeros_like(z)], 1)

    x, y, trace = torch.full((3, 1, 2, 2), 0.9), torch.zeros(3, dtype=torch.int64), Trace(3)
    x[2] = 0.1  # wrong already
    made = sigma_zero(OnePixel(), x, y, steps=50, trace=trace)
    assert size(made - x, "l0").tolist() == [1, 1, 0]
    assert trace.backwards.tolist()[2] == 1
    assert max(trace.backwards.tolist()) < 10


def test_a_norm_that_an_attack_lacks_and_a_tolerance_out_of_range_are_refused(network, test_images):
    x, y = (t[:2] for t in test_images)
    with pytest.raises(UserError, match="attack 'ddn' has no norm 'l1'; it supports l2"):
        check_norm(attacks.attack.entry("ddn"), "l1")
    with pytest.raises(UserError, match="attack 'pdpgd' has no norm 'l3'"):
        attacks.get("pdpgd")(network, x, y, norm="l3")
    with pytest.raises(UserError, match="tolerance"):
        rays(network, x, y, tolerance=0.0)


@pytest.mark.parametrize(("name", "norm"), [("sigma-zero", "l0"), ("ddn", "l2"), ("pdpgd", "l1"), ("pdpgd", "l0")])
def test_no_farther_than_adversarial_library_at_equal_steps(network, test_images, name: str, norm: str):
    sys.modules.setdefault("visdom", types.ModuleType("visdom"))  # a plotting server that it imports and never calls
    peer = pytest.importorskip("adv_lib.attacks")

    x, y = (t[:50] for t in test_images)
    right = network(x).argmax(1) == y
    x, y = x[right], y[right]
    order = {"l0": 0, "l1": 1, "l2": 2}[norm]
    theirs = {
        "sigma-zero": lambda: peer.sigma_zero(network, x, y, num_steps=60),
        "ddn": lambda: peer.ddn(network, x, y, steps=60, levels=None),
        "pdpgd": lambda: peer.pdpgd(network, x, y, order, num_steps=60, proximal_operator=23 if norm == "l0" else None),
    }[name]()
    given = {"norm": norm} if name == "pdpgd" else {}
    made = attacks.get(name)(network, x, y, steps=60, **given)
    won, peer_won = ((network(images).argmax(1) != y) for images in (made, theirs))
    assert won.double().mean() >= peer_won.double().mean()
    both = won & peer_won
    assert size(made - x, norm)[both].mean() <= 1.01 * size(theirs - x, norm)[both].mean()


class _Pair(nn.Module):
    """Two classes; the gap of the second over the first is <w, x> + 3 x_2 x_3 - 1.2, w = (.5, .5, .5, .1)."""

    def forward(self, x: Tensor) -> Tensor:
        t = x.flatten(1)
        gap = 0.5 * (t[:, 0] + t[:, 1] + t[:, 2]) + 0.1 * t[:, 3] + 3 * t[:, 2] * t[:, 3] - 1.2
        return torch.stack([torch.zeros_like(gap), gap], 1)


def test_exchanged_elements_find_a_pair_that_bisection_cannot_see():
    x = torch.zeros(1, 1, 2, 2)
    point = torch.tensor([1.0, 1.0, 1.0, 0.0]).view_as(x)
    nearest, trace = Nearest(x, torch.tensor([0]), "l0", targeted=False), Trace(1)
    nearest.update(torch.tensor([0]), point, _Pair()(point))
    fewest(_Pair(), nearest, trace)
    assert nearest.distance.tolist() == [3]
    before = trace.forwards.clone(), trace.backwards.clone()
    exchange(_Pair(), nearest, 1, trace)
    assert nearest.x.flatten().tolist() == [0, 0, 1, 1]
    assert ((trace.forwards - before[0]).tolist(), (trace.backwards - before[1]).tolist()) == ([3], [2])


def test_exchange_leaves_what_cannot_be_fewer_and_what_was_never_found():
    x = torch.zeros(3, 1, 2, 2)
    point = torch.tensor([[0.0, 0, 1, 1], [0, 0, 1, 1], [0, 0, 0, 0]]).view_as(x)
    nearest = Nearest(x, torch.tensor([0, 0, 0]), "l0", targeted=False)
    nearest.update(torch.arange(3), point, _Pair()(point))
    exchange(_Pair(), nearest, 6, Trace(3))
    assert nearest.distance.tolist() == [2, 2, float("inf")]
    assert torch.equal(nearest.x, point)


def test_what_is_adversarial_by_rounding_alone_is_not_noted_at_the_end_of_a_search():
    nearest = Nearest(torch.zeros(2, 1), torch.tensor([1, 1]), "l2", targeted=False)
    outputs = torch.tensor([[0.0, 9.0, 9.00001], [0.0, 9.0, 9.01]])
    assert nearest.update_clear(torch.arange(2), torch.ones(2, 1), outputs).all()
    assert nearest.distance.tolist() == [float("inf"), 1.0]


def test_the_last_search_of_sigma_zero_takes_the_place_of_steps(network: nn.Module, test_images: tuple[Tensor, Tensor]):
    x, y = test_images[0][:20], test_images[1][:20]
    trace = Trace(20)
    sigma_zero(network, x, y, steps=100, trace=trace)
    assert int((trace.forwards + 2 * trace.backwards).max()) <= 3 * 100 + 30
    assert int(trace.backwards.max()) < 100
