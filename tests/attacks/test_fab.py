"""FAB: the projection against linear programs and torchattacks, closed-form distances, torchattacks' distances."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from robustkit.attacks._boundary import DUAL, linearise, to_hyperplane
from robustkit.attacks.fab import fab
from robustkit.ensembles.ensemble import Ensemble
from robustkit.functional.losses import margin
from robustkit.functional.norms import size
from robustkit.functional.trace import Trace
from robustkit.functional.waits import Finite


def planes(b: int, n: int) -> tuple[Tensor, Tensor, Tensor]:
    """Points that touch the box, normals with zeros, and offsets from near to out of reach of the box."""
    g = torch.Generator().manual_seed(n)
    t = (torch.rand((b, n), generator=g).double() * 1.4 - 0.2).clamp(0, 1)
    w = torch.randn((b, n), generator=g).double() * (torch.rand((b, n), generator=g) > 0.2)
    sign = torch.where(torch.rand(b, generator=g) > 0.5, 1.0, -1.0).double()
    v = -w * sign[:, None]
    reach = (v.clamp_min(0) * (1 - t) + (-v).clamp_min(0) * t).sum(1)
    return t, w, sign * reach * torch.linspace(0.05, 1.3, b).double()


@pytest.mark.parametrize("norm", ["linf", "l2", "l1"])
def test_projection_lies_in_the_box_and_on_the_plane(norm: str):
    t, w, c = planes(40, 30)
    d = to_hyperplane(t, w, c, norm)
    assert (t + d).min() >= -1e-12
    assert (t + d).max() <= 1 + 1e-12
    left = (c + (w * d).sum(1)).abs()
    v = -w * c.sign()[:, None]
    short = (c.abs() - (v.clamp_min(0) * (1 - t) + (-v).clamp_min(0) * t).sum(1)).clamp_min(0)
    assert (short > 0).any()
    torch.testing.assert_close(left, short, atol=1e-9, rtol=0)  # exactly as near as the box allows
    single = torch.cat([to_hyperplane(t[i : i + 1], w[i : i + 1], c[i : i + 1], norm) for i in range(40)])
    torch.testing.assert_close(single, d, atol=1e-12, rtol=0)


@pytest.mark.parametrize("norm", ["linf", "l1"])
def test_projection_is_the_optimum_of_the_linear_program(norm: str):
    linprog = pytest.importorskip("scipy.optimize").linprog
    t, w, c = planes(12, 8)
    d = size(to_hyperplane(t, w, c, norm), norm)
    n, eye = 8, np.eye(8)
    for i in torch.nonzero(torch.linspace(0.05, 1.3, 12) < 1).squeeze(1):
        bound = list(zip((-t[i]).tolist(), (1 - t[i]).tolist(), strict=True))
        extra = 1 if norm == "linf" else n  # minimise one h >= |d_j|, or the sum of h_j >= |d_j|
        over = np.ones((n, 1)) if norm == "linf" else eye
        found = linprog(
            np.r_[np.zeros(n), np.ones(extra)],
            A_ub=np.r_[np.c_[eye, -over], np.c_[-eye, -over]], b_ub=np.zeros(2 * n),
            A_eq=np.r_[w[i].numpy(), np.zeros(extra)][None], b_eq=[-c[i].item()], bounds=bound + [(0, None)] * extra,
        )  # fmt: skip
        assert d[i].item() == pytest.approx(found.fun, abs=1e-7)


@pytest.mark.parametrize("norm", ["linf", "l2", "l1"])
def test_projection_agrees_with_torchattacks(norm: str):
    peer = getattr(pytest.importorskip("torchattacks.attacks.fab"), f"projection_{norm}")
    t, w, c = (a[:28].float() for a in planes(40, 30))
    theirs = peer(t, w, (w * t).sum(1) - c)
    torch.testing.assert_close(size(to_hyperplane(t, w, c, norm), norm), size(theirs, norm), atol=2e-4, rtol=1e-3)


def test_linearise_picks_the_nearest_boundary():
    g = torch.Generator().manual_seed(0)
    w = torch.randn(4, 12, generator=g).double()
    model = nn.Sequential(nn.Flatten(), nn.Linear(12, 4, bias=False)).double()
    model[1].weight.data = w
    x = torch.rand((6, 3, 2, 2), generator=g).double()
    y = model(x).argmax(1)
    others = torch.stack([torch.tensor([k for k in range(4) if k != label]) for label in y])
    with Finite() as finite:
        _, f, gradient = linearise(model, x, y, others, "linf", False, finite)
    for i in range(6):
        away = [((w[k] - w[y[i]]) @ x[i].flatten()).abs() / (w[k] - w[y[i]]).abs().sum() for k in range(4) if k != y[i]]
        assert (f[i].abs() / gradient[i].abs().sum()).item() == pytest.approx(min(away).item())


@pytest.mark.parametrize("norm", ["linf", "l2", "l1"])
@pytest.mark.parametrize("targets", [0, 9])
def test_linear_model_in_closed_form(norm: str, targets: int):
    model = nn.Sequential(nn.Flatten(), nn.Linear(48, 2)).double()
    model[1].weight.data = torch.randn(2, 48, generator=torch.Generator().manual_seed(3)).double()
    x = 0.45 + 0.1 * torch.rand((8, 3, 4, 4), generator=torch.Generator().manual_seed(1)).double()
    model[1].bias.data = -model(x).mean(0)
    y = model(x).argmax(1)
    w = (model[1].weight[1] - model[1].weight[0]).detach()[None]
    least = -margin(model(x), y).detach() / size(w, DUAL[norm])
    assert least.max() < 0.45  # so that the box is never in the way
    plain = size(fab(model, x, y, norm=norm, steps=20, targets=targets, search_steps=0) - x, norm)
    torch.testing.assert_close(plain, least, rtol=0.02, atol=0)
    searched = size(fab(model, x, y, norm=norm, steps=20, targets=targets, search_steps=3) - x, norm)
    torch.testing.assert_close(searched, least, rtol=1e-3, atol=0)
    assert (searched <= plain).all()


@pytest.mark.parametrize("norm", ["linf", "l2"])
def test_same_distances_as_torchattacks(network: nn.Module, test_images: tuple[Tensor, Tensor], norm: str):
    torchattacks = pytest.importorskip("torchattacks")
    x, y = (t[:40] for t in test_images)
    right = network(x).argmax(1) == y
    peer = torchattacks.FAB(network, norm=norm.capitalize(), steps=10, eps=1e9)
    theirs = size(peer(x, y) - x, norm)[right]
    ours = size(fab(network, x, y, norm=norm, steps=10, targets=0, search_steps=0) - x, norm)[right]
    assert ((ours > 0) >= (theirs > 0)).all()  # ten steps without restarts: one sample is found by neither
    assert (ours > 0).double().mean() >= 0.95
    assert ours.median() <= theirs.median() * 1.02
    assert ((ours - theirs).abs() <= 0.01 * theirs).double().mean() > 0.8  # most of them are the same point


def test_a_restart_never_loses_and_starts_elsewhere(resnets: Ensemble, test_images: tuple[Tensor, Tensor]):
    network = resnets.members[0]  # on a perceptron the first run finds all the optima
    x, y = (t[:16] for t in test_images)
    once = size(fab(network, x, y, norm="l2", steps=6, targets=2, search_steps=0) - x, "l2")
    twice = size(fab(network, x, y, norm="l2", steps=6, targets=2, search_steps=0, restarts=3) - x, "l2")
    assert (twice <= once).all()
    assert (twice < once).any()


def test_passes_as_promised(network: nn.Module, test_images: tuple[Tensor, Tensor]):
    x, y = (t[:12] for t in test_images)
    right = network(x).argmax(1) == y
    for targets, backwards, forwards in ((0, 4 * 9, 8), (3, 4 * 3, 8 * 3)):
        trace = Trace(12)
        fab(network, x, y, steps=4, targets=targets, search_steps=0, trace=trace)
        assert (trace.backwards[right] == backwards).all()
        assert (trace.forwards[right] == 1 + forwards).all()


@pytest.mark.parametrize("norm", ["linf", "l2"])
def test_what_is_broken_within_a_budget_is_done(network: nn.Module, test_images: tuple[Tensor, Tensor], norm: str):
    x, y = (t[:40] for t in test_images)
    smallest, at_budget = Trace(40), Trace(40)
    found = size(fab(network, x, y, norm=norm, steps=10, targets=3, trace=smallest) - x, norm)
    eps = float(found[found > 0].median())
    made = fab(network, x, y, eps=eps, norm=norm, steps=10, targets=3, trace=at_budget)
    within = size(made - x, norm) <= eps
    assert torch.equal(within, found <= eps)
    assert (network(made).argmax(1) != y)[within].all()
    assert (at_budget.forwards <= smallest.forwards).all()
    assert at_budget.forwards[within].sum() < 0.5 * smallest.forwards[within].sum()
    beyond = ~within & (found > 0)
    torch.testing.assert_close(size(made - x, norm)[beyond], found[beyond])  # what is not goes on, and is refined


def test_images_may_lie_channels_last_where_torchattacks_crashes():
    torchattacks = pytest.importorskip("torchattacks")
    model = nn.Sequential(nn.Conv2d(3, 8, 3), nn.ELU(), nn.Flatten(), nn.Linear(32, 4))
    with torch.no_grad():
        for p in model.parameters():
            p.copy_(torch.randn(p.shape, generator=torch.Generator().manual_seed(p.numel())))
    x = torch.rand((4, 4, 4, 3), generator=torch.Generator().manual_seed(0)).permute(0, 3, 1, 2)
    y = model(x).argmax(1)
    made = fab(model, x, y, steps=5)
    assert (made != x).any()
    torch.testing.assert_close(made, fab(model, x.contiguous(), y, steps=5), atol=1e-4, rtol=0)
    with pytest.raises(RuntimeError, match="view size is not compatible"):
        torchattacks.FAB(model, steps=5, multi_targeted=True, n_classes=4)(x, y)
