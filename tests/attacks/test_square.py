"""Square: its schedule and patches by hand, what it may do to an image, torchattacks."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from robustkit.attacks.square import _patch, _Patches, _rectangles, share, square
from robustkit.functional.losses import margin
from robustkit.functional.norms import size
from robustkit.functional.sampling import SampleGenerator
from robustkit.functional.trace import Trace


def test_schedule_by_hand():
    changes = {0: 1, 10: 1, 11: 2, 51: 4, 201: 8, 501: 16, 1001: 32, 2001: 64, 4001: 128, 6001: 256, 8001: 512}
    for query, divisor in changes.items():
        assert share(query, 10_000, 0.8) == pytest.approx(0.8 / divisor)
        assert share(query // 2, 5_000, 0.8) == pytest.approx(share(query // 2 * 2, 10_000, 0.8))
    assert share(999, 1000, 0.1) == pytest.approx(0.1 / 512)


def test_l2_patch_by_hand():
    # 3 x 3: the centre gets 1 + 1/4, the eight around it 1/4; unit length
    ring = torch.full((3, 3), 0.25, dtype=torch.float64)
    ring[1, 1] = 1.25
    torch.testing.assert_close(_rectangles(3, 3), ring / ring.norm())
    patch = _patch(6, torch.float64, torch.device("cpu"))
    assert patch.norm().item() == pytest.approx(1.0)
    torch.testing.assert_close(patch[:3], _rectangles(3, 6) / 2**0.5)
    torch.testing.assert_close(patch[3:], -_rectangles(3, 6) / 2**0.5)


@pytest.mark.parametrize("shape", [(3, 3), (2, 5), (4, 9), (1, 1)])
def test_l2_rectangles_agree_with_torchattacks(shape: tuple[int, int]):
    peer = pytest.importorskip("torchattacks").Square(nn.Linear(2, 2))
    torch.testing.assert_close(_rectangles(*shape).float(), peer.eta_rectangles(*shape))


def test_linf_images_are_stripes_and_squares_of_full_size():
    model = nn.Sequential(nn.Flatten(), nn.Linear(3 * 10 * 7, 3))
    x = 0.3 + 0.4 * torch.rand((5, 3, 10, 7), generator=torch.Generator().manual_seed(0))
    made = square(model, x, model(x).argmax(1), eps=0.1, queries=60, stop_early=False)
    torch.testing.assert_close((made - x).abs(), torch.full_like(x, 0.1))


def test_l2_images_use_the_whole_budget():
    model = nn.Sequential(nn.Flatten(), nn.Linear(3 * 10 * 7, 3))
    x = 0.45 + 0.1 * torch.rand((5, 3, 10, 7), generator=torch.Generator().manual_seed(0))
    made = square(model, x, model(x).argmax(1), eps=0.4, norm="l2", queries=60, stop_early=False)
    torch.testing.assert_close(size(made - x, "l2"), torch.full((5,), 0.4))


@pytest.mark.parametrize("norm", ["linf", "l2"])
def test_a_square_changes_one_square_and_squares_reach_every_pixel(norm: str):
    x = torch.full((400, 2, 6, 9), 0.5)
    patches = _Patches(0.1, norm, SampleGenerator(0, torch.arange(400)))
    start = patches.start(x)
    moved = patches.propose(start, x, 1 / 54) != start  # of one pixel for linf, three by three for l2
    if norm == "linf":
        assert set(moved.any(1).sum((1, 2)).tolist()) <= {0, 1}
    assert moved.any(1).any(0).all(), "some pixels are never changed"
    assert len(torch.unique(start, dim=0)) == 400, "samples share their draws"


def test_l2_moves_budget_between_two_squares_only():
    x = torch.full((50, 3, 12, 12), 0.5).double()
    patches = _Patches(0.5, "l2", SampleGenerator(0, torch.arange(50)))
    start = patches.start(x)
    before, after = start - x, patches.propose(start, x, 9 / 144) - x
    same = torch.isclose(before, after, atol=1e-12)
    assert ((~same).any(1).sum((1, 2)) <= 18).all()  # two squares of three by three
    torch.testing.assert_close(size(after, "l2"), torch.full((50,), 0.5).double())


def test_a_linear_model_is_climbed_most_of_the_way():
    model = nn.Sequential(nn.Flatten(), nn.Linear(64, 2, bias=False)).double()
    x = 0.3 + 0.4 * torch.rand((6, 1, 8, 8), generator=torch.Generator().manual_seed(0)).double()
    y = model(x).argmax(1)
    best = 0.1 * (model[1].weight[1] - model[1].weight[0]).abs().sum()
    trace = Trace(6, keep=6)
    made = square(model, x, y, eps=0.1, queries=1500, stop_early=False, trace=trace)
    assert ((margin(model(made), y) - margin(model(x), y)) / best).min() > 0.95  # single pixels are tried in the end
    assert (trace.history.diff(dim=1) >= 0).all()
    assert (trace.forwards == 1502).all()
    assert (trace.backwards == 0).all()


@pytest.mark.parametrize(("norm", "eps"), [("linf", 0.08), ("l2", 0.6)])
def test_no_weaker_than_torchattacks(network: nn.Module, test_images: tuple[Tensor, Tensor], norm: str, eps: float):
    torchattacks = pytest.importorskip("torchattacks")
    x, y = (t[:60] for t in test_images)
    peer = torchattacks.Square(network, norm=norm.capitalize(), eps=eps, n_queries=150)
    peers = (network(peer(x, y)).argmax(1) == y).double().mean()
    left = (network(square(network, x, y, eps=eps, norm=norm, queries=150)).argmax(1) == y).double().mean()
    assert left <= peers + (peers * (1 - peers) / 60).sqrt()
    assert left < (network(x).argmax(1) == y).double().mean()
