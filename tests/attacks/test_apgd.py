"""APGD: its checkpoints by hand, a plain second implementation, closed-form optima, torchattacks."""

from __future__ import annotations

import inspect

import pytest
import torch
from torch import Tensor, nn

from robustkit.attacks._apgd import checkpoints
from robustkit.attacks._parts import fork
from robustkit.attacks.apgd_ce import apgd_ce
from robustkit.attacks.apgd_dlr import apgd_dlr
from robustkit.attacks.apgd_t import apgd_t, ratio
from robustkit.ensembles.ensemble import Ensemble
from robustkit.functional.losses import cross_entropy, dlr, margin
from robustkit.functional.norms import random_start, size
from robustkit.functional.sampling import SampleGenerator
from robustkit.functional.trace import Trace


class Linear(nn.Module):
    def __init__(self, classes: int, n: int = 48) -> None:
        super().__init__()
        self.b = torch.zeros(classes).double()
        self.w = nn.Parameter(torch.randn(classes, n, generator=torch.Generator().manual_seed(classes)).double())

    def forward(self, x: Tensor) -> Tensor:
        return x.flatten(1) @ self.w.T + self.b


def images(n: int = 10) -> Tensor:
    return 0.3 + 0.4 * torch.rand((n, 3, 4, 4), generator=torch.Generator().manual_seed(1)).double()


def test_checkpoints_by_hand():
    # p: 0.22, + 0.19, + 0.16, + 0.13, + 0.10, + 0.07, + 0.06, + 0.06
    assert checkpoints(100) == [22, 41, 57, 70, 80, 87, 93, 99]
    assert checkpoints(10) == [3, 5, 6, 7, 8, 9]  # ceil of 2.2, 4.1, 5.7, 7, 8, 8.7, 9.3, 9.9; the last is the end
    assert checkpoints(1) == []


@pytest.mark.parametrize(("norm", "dual"), [("linf", "l1"), ("l2", "l2")])
def test_reaches_the_largest_loss_in_the_ball(norm: str, dual: str):
    model, x, eps = Linear(2), images(), {"linf": 0.02, "l2": 0.1}[norm]
    y = model(x).argmax(1)
    w = (model.w[1] - model.w[0]).detach()[None]
    best = margin(model(x), y) + eps * size(w, dual)  # of -log softmax_y = log(1 + exp(margin)), and of the margin
    for craft in (apgd_ce, apgd_dlr, apgd_t):  # with two classes the ratios fall back to the margin, and do move
        made = craft(model, x, y, eps=eps, norm=norm, steps=50, stop_early=False)
        assert size(made - x, norm).max() <= eps + 1e-12
        torch.testing.assert_close(cross_entropy(model(made), y), torch.log1p(best.exp()), rtol=0.01, atol=0)


@pytest.mark.parametrize(("norm", "dual"), [("linf", "l1"), ("l2", "l2")])
def test_apgd_t_breaks_what_can_be_broken_and_nothing_else(norm: str, dual: str):
    model, x = Linear(6), images(6)
    model.b = -model(x).detach().mean(0)
    z = model(x).detach()
    y = z.argmax(1)
    apart = size((model.w[None] - model.w[:, None]).detach().flatten(0, 1), dual).view(6, 6)
    away = ((z.gather(1, y[:, None]) - z) / apart[y]).scatter(1, y[:, None], float("inf"))  # to each boundary
    assert len(away.argmin(1).unique()) > 1
    for i in range(len(x)):
        for share, broken in ((0.98, False), (1.02, True)):
            eps = share * away[i].min().item()
            made = apgd_t(model, x[i : i + 1], y[i : i + 1], eps=eps, norm=norm, steps=100)
            assert (model(made).argmax(1) != y[i]).item() is broken


def test_the_box_cuts_the_linf_optimum():
    model = Linear(2)
    x = (images() - 0.5) * 6 % 1.0
    y = model(x).argmax(1)
    toward = (model.w[1] - model.w[0]).detach().sign() * (1 - 2 * y[:, None])
    best = (x + 0.3 * toward.view_as(x)).clamp(0, 1)
    made = apgd_ce(model, x, y, eps=0.3, steps=60, stop_early=False)
    torch.testing.assert_close(margin(model(made), y), margin(model(best), y), rtol=0.01, atol=0)


def reference(model: nn.Module, x: Tensor, y: Tensor, start: Tensor, eps: float, steps: int, norm: str) -> list[float]:
    """Algorithm 1 of arXiv:2003.01690 for one image, as plainly as it can be written; the losses f(x_k)."""

    def value(p: Tensor) -> tuple[float, Tensor]:
        p = p.clone().requires_grad_()
        f = nn.functional.cross_entropy(model(p), y)
        return f.item(), torch.autograd.grad(f, p)[0]

    def inside(p: Tensor) -> Tensor:
        if norm == "linf":
            return (x + (p - x).clamp(-eps, eps)).clamp(0, 1)
        return (x + (p - x) * min(1.0, eps / max((p - x).norm().item(), 1e-30))).clamp(0, 1)

    eta, p, old = 2 * eps, start, start
    f, g = value(p)
    losses, top, w, rises, checked, reduced = [f], (f, p, g), 0, 0, f, False
    for k in range(1, steps + 1):
        a = 0.75 if k > 1 else 1.0
        z = inside(p + eta * (g.sign() if norm == "linf" else g / g.norm()))
        p, old = inside(p + a * (z - p) + (1 - a) * (p - old)), p
        before, (f, g) = f, value(p)
        losses.append(f)
        rises += f > before
        if f > top[0]:
            top = (f, p, g)
        if k in checkpoints(steps):
            reduced = rises < 0.75 * (k - w) or (not reduced and top[0] == checked)
            if reduced:
                eta, (f, p, g) = eta / 2, top
            w, rises, checked = k, 0, top[0]
    return losses


@pytest.mark.parametrize("norm", ["linf", "l2"])
def test_the_course_of_the_loss_is_that_of_algorithm_1(norm: str):
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model = nn.Sequential(nn.Conv2d(3, 8, 3), nn.ELU(), nn.Flatten(), nn.Linear(32, 4)).double()
    x, eps, steps = images(4), {"linf": 0.2, "l2": 1.0}[norm], 40
    y, ids, trace = model(x).argmax(1), torch.arange(4), Trace(4, keep=4)
    apgd_ce(
        model, x, y, eps=eps, norm=norm, steps=steps, stop_early=False, generator=SampleGenerator(9, ids), trace=trace
    )
    starts = random_start(x, eps, norm, fork(SampleGenerator(9, ids), ids, "start"))
    for i in range(4):
        expected = reference(model, x[i : i + 1], y[i : i + 1], starts[i : i + 1], eps, steps, norm)
        torch.testing.assert_close(trace.history[i], torch.tensor(expected), rtol=1e-4, atol=1e-6)


def test_the_losses_by_hand():
    z, y = torch.tensor([[4.0, 3.0, 1.0, 0.0, -2.0]]), torch.tensor([0])
    assert dlr(z, y).item() == pytest.approx(-1 / 3)  # -(4 - 3) / (4 - 1)
    assert ratio(z, y, torch.tensor([2])).item() == pytest.approx(-3 / 3.5)  # (1 - 4) / (4 - (1 + 0) / 2)
    assert ratio(z[:, :3], y, torch.tensor([2])).item() == pytest.approx(-1.0)  # three classes: / (4 - 1)
    assert ratio(z[:, :2], y, torch.tensor([1])).item() == pytest.approx(-1.0)  # two: the numerator, (3 - 4)


def test_later_restarts_see_only_the_samples_that_stand(trained: Ensemble, test_images: tuple[Tensor, Tensor]):
    x, y = (t[:40] for t in test_images)
    trace = Trace(40)
    made = apgd_ce(trained, x, y, eps=0.08, steps=5, restarts=3, trace=trace)
    stands = trained(made).argmax(1) == y
    assert 0 < stands.sum() < 40
    assert (trace.forwards[stands] == 1 + 3 * 6).all()
    assert (trace.forwards[trained(x).argmax(1) != y] == 1).all()
    assert (trace.forwards[~stands] < 1 + 3 * 6 + 1).all()


@pytest.mark.parametrize(("norm", "eps"), [("linf", 0.08), ("l2", 0.5)])
def test_no_weaker_than_torchattacks(network: nn.Module, test_images: tuple[Tensor, Tensor], norm: str, eps: float):
    torchattacks = pytest.importorskip("torchattacks")
    x, y = (t[:60] for t in test_images)
    budget, theirs = {"eps": eps, "steps": 20}, norm.capitalize()
    pairs = [
        (apgd_ce, torchattacks.APGD(network, norm=theirs, loss="ce", **budget)),
        (apgd_dlr, torchattacks.APGD(network, norm=theirs, loss="dlr", **budget)),
        (apgd_t, torchattacks.APGDT(network, norm=theirs, **budget)),
    ]
    for ours, peer in pairs:
        left = (network(ours(network, x, y, norm=norm, **budget)).argmax(1) == y).double().mean()
        peers = (network(peer(x, y)).argmax(1) == y).double().mean()
        assert left <= peers + (peers * (1 - peers) / 60).sqrt(), ours.__name__


def test_torchattacks_apgdt_steps_every_l2_sample_by_the_first_ones_size():
    """In its l2 branch the step is ``step_size[0]``: one sample's step size for the whole batch. Ours is per sample."""
    torchattacks = pytest.importorskip("torchattacks")
    assert "step_size[0] * grad" in inspect.getsource(torchattacks.APGDT.attack_single_run)
