"""MORA: its weights and mixtures by hand and as derivatives, every fusion rule, classes that nobody considers."""

from __future__ import annotations

import math

import pytest
import torch
from member_models import FUSIONS, Shown, Times, logits, mixed, standing
from torch import Tensor
from torch.nn import functional

from robustkit import attacks
from robustkit.attacks._members import by_gap
from robustkit.attacks.mora import _narrowed, _reweighed, reweigh
from robustkit.ensembles.ensemble import Ensemble
from robustkit.ensembles.fusion import mean_prob
from robustkit.functional.eot import Averaged
from robustkit.functional.trace import Trace

mora = attacks.get("mora")


def softmax(z: list[float], tau: float) -> list[float]:
    raised = [math.exp(tau * (value - max(z))) for value in z]
    return [value / sum(raised) for value in raised]


def gap_of(z: list[float]) -> float:
    first, second, *_ = sorted(z, reverse=True)
    return max(first - second, 1e-6)  # two members who disagree, both sure, fuse to two equal entries


def weights_by_hand(z: list[list[float]], fused: list[float], label: int, tau: float, targeted: bool) -> list[float]:
    """w_m of one sample, z its M rows of logits."""
    p = [softmax(row, tau) for row in z]
    if targeted:
        y, j = max(range(len(fused)), key=fused.__getitem__), label
    else:
        y, j = label, max((i for i in range(len(fused)) if i != label), key=fused.__getitem__)
    mean = [sum(row[i] for row in p) / len(p) for i in range(len(fused))]
    return [row[j] * (row[y] / mean[y] + (1 - row[j]) / mean[j]) for row in p]


def by_hand(z: Tensor, fused: Tensor, y: Tensor, share: float, fusion: str, targeted: bool) -> Tensor:
    """The mixture in plain loops."""
    tau = 0.8 if fusion in ("majority", "median") else 0.2
    mixed = []
    for row, label in enumerate(y.tolist()):
        own, f = z[:, row].tolist(), fused[row].tolist()
        divisor = max(1.0, max(map(gap_of, own)) / 10)
        own = [[value / divisor for value in one] for one in own]
        weights = weights_by_hand(own, f, label, tau, targeted)
        if fusion not in ("mean-logit", "geometric-mean"):
            weights = [
                w * ((max(range(len(one)), key=one.__getitem__) == label) != targeted)
                for w, one in zip(weights, own, strict=True)
            ]
        total = sum(weights) or 1.0
        mixed.append(
            [
                (1 - share) * f[i] / gap_of(f)
                + share * sum(w * one[i] for w, one in zip(weights, own, strict=True)) / total
                for i in range(len(f))
            ]
        )
    return torch.tensor(mixed, dtype=torch.float64)


@pytest.mark.parametrize("targeted", [False, True])
@pytest.mark.parametrize("fusion", FUSIONS)
@pytest.mark.parametrize("size", [3.0, 40.0])
def test_each_mixture_by_hand(fusion: str, targeted: bool, size: float):
    model, x = Shown(logits(size=size), fusion), torch.rand(12, 1, 2, 2)
    y = torch.arange(12) % 5
    y[:6] = model.logits[0, :6].argmax(1)
    assert {0, 1, 2} <= set((model.logits.argmax(2) == y).sum(0).tolist())
    for share in (0.5, 0.0, 0.25, 0.75, 1.0):
        judged, (ascended,) = _reweighed(share, fusion, targeted)(model, x, y)
        assert torch.equal(judged, model.fuse(model.logits))
        torch.testing.assert_close(ascended, by_hand(model.logits, judged, y, share, fusion, targeted))


@pytest.mark.parametrize("tau", [0.2, 0.8, 1.0])
def test_the_weights_are_the_derivative_of_the_margin_of_the_mean_probability(tau: float):
    z, y = logits().requires_grad_(), torch.arange(12) % 5
    rows = torch.arange(12)
    fused = mean_prob(z).detach()
    j = fused.scatter(1, y[:, None], float("-inf")).argmax(1)
    log_p = mean_prob(tau * z)
    (gradient,) = torch.autograd.grad((log_p[rows, j] - log_p[rows, y]).sum(), z)
    torch.testing.assert_close(reweigh(z, fused, y, tau) * tau / 3, gradient[:, rows, j])
    assert not reweigh(z, fused, y, tau).requires_grad


def test_a_class_that_nobody_considers_has_weights_too():
    """Where all members rule the label out, its probabilities are 0, and so is their mean."""
    z = torch.tensor([[[0.0, -1.0, -800.0]], [[0.0, -1.0, -805.0]]])
    found = reweigh(z, mean_prob(z), torch.tensor([2]), 0.2)
    wanted = reweigh(z.double(), mean_prob(z.double()), torch.tensor([2]), 0.2)
    assert torch.isfinite(found).all()
    torch.testing.assert_close(found.double(), wanted, atol=1e-6, rtol=1e-5)
    own, other = softmax([-160.0, -161.0], 1.0), softmax([0.0, 0.0], 1.0)
    p = 1 / (1 + math.exp(-0.2))  # of the first class
    assert found[:, 0].tolist() == pytest.approx([2 * (p * own[m] + (1 - p) * other[m]) for m in range(2)], rel=1e-5)


def test_narrowing():
    z = torch.tensor([[[30.0, 10.0, 0.0], [3.0, 1.0, 0.0]], [[0.0, 1.0, 2.0], [0.0, 9.0, 1.0]]])
    torch.testing.assert_close(_narrowed(z), z / torch.tensor([2.0, 1.0])[None, :, None])


@pytest.mark.parametrize("share", [0.0, 0.5, 1.0])
def test_one_member_has_nothing_to_reweigh(share: float):
    z, x = logits(1, size=20.0), torch.rand(12, 1, 2, 2)
    y = z[0].argmax(1)
    y[8:] = (y[8:] + 1) % 5
    own = _narrowed(z)[0]
    right = (z[0].argmax(1) == y).double()[:, None]
    shown = Shown(z, "mean-prob")
    for model, kept, fused in (
        (shown, right, functional.log_softmax(z[0], 1)),
        (lambda x: z[0], right, z[0]),
        (Shown(z, "mean-logit"), torch.ones_like(right), functional.log_softmax(z[0], 1)),
    ):
        judged, (ascended,) = _reweighed(share, getattr(model, "fusion", ""), False)(model, x, y)
        torch.testing.assert_close(judged, fused)
        torch.testing.assert_close(ascended, (1 - share) * by_gap(fused) + share * kept * own)


def test_a_plain_function_is_attacked_as_an_ensemble_of_one(trained: Ensemble, test_images):
    x, y = test_images[0][:40].double(), test_images[1][:40]
    net = trained.double().members[0]
    common = {"eps": 0.1, "steps": 8, "generator": 3}
    made = mora(lambda x: functional.log_softmax(net(x), -1), x, y, **common)
    assert 5 <= (net(made).argmax(1) != y).sum() <= 35
    for model in (trained.view("member-0"), Ensemble([_Logs(net)])):
        torch.testing.assert_close(mora(model, x, y, **common), made)


class _Logs(torch.nn.Module):
    def __init__(self, net: torch.nn.Module) -> None:
        super().__init__()
        self.net = net

    def forward(self, x: Tensor) -> Tensor:
        return functional.log_softmax(self.net(x), -1)


@pytest.mark.parametrize("fusion", FUSIONS)
def test_breaks_no_less_than_pgd_of_as_many_passes(trained: Ensemble, lenets: Ensemble, test_images, fusion: str):
    """Of members that differ in architecture, whichever rule fuses them."""
    model, data = mixed(trained, lenets, fusion), [part[:40] for part in test_images]
    passes = {"eps": 0.1, "steps": 10, "restarts": 5}
    left = standing("mora", model, data, **passes)
    assert 10 <= left <= 30
    assert left <= standing("pgd", model, data, **passes)


@pytest.mark.parametrize("fusion", ["mean-prob", "mean-logit", "majority"])
def test_large_logits_are_broken_as_often(trained: Ensemble, test_images, fusion: str):
    data = [part[:30] for part in test_images]
    small, large = (Ensemble([Times(m, by) for m in trained.members], fusion).eval() for by in (1.0, 1e4))
    common = {"eps": 0.1, "steps": 8}
    assert abs(standing("mora", large, data, **common) - standing("mora", small, data, **common)) <= 2
    assert standing("pgd", large, data, **common, restarts=2) >= standing("mora", large, data, **common) + 5


def test_aims_as_well_as_pgd(trained: Ensemble, test_images):
    x = test_images[0][:40]
    target = trained(x).topk(2).indices[:, 1]
    common = {"eps": 0.08, "steps": 16, "restarts": 5, "targeted": True}
    left = standing("mora", trained, [x, target], **common)
    assert 10 <= left <= 35
    assert left <= standing("pgd", trained, [x, target], **common)


def test_every_run_is_counted_and_who_is_broken_leaves(trained: Ensemble, test_images):
    x, y = test_images[0][:30], test_images[1][:30]
    full, early = Trace(30, keep=4), Trace(30)
    common = {"eps": 0.1, "steps": 4, "restarts": 6, "generator": 0}
    whole = mora(trained, x, y, stop_early=False, trace=full, **common)
    assert (full.forwards == 5 * 6).all()
    assert (full.backwards == 4 * 6).all()
    made = mora(trained, x, y, trace=early, **common)
    stands = trained(made).argmax(1) == y
    assert torch.equal(trained(whole).argmax(1) == y, stands)
    assert (early.forwards[stands] == 5 * 6).all()
    assert early.forwards.sum() < 0.9 * full.forwards.sum()
    torch.testing.assert_close(mora(Averaged(trained, 3), x, y, **common), made, atol=1e-6, rtol=0)
