"""FGSM, BIM, PGD and MIM: closed forms, momentum by hand, and two independent libraries."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor, nn

from robustkit import attacks
from robustkit.ensembles.ensemble import Ensemble
from robustkit.functional.norms import size
from robustkit.functional.sampling import SampleGenerator
from robustkit.functional.trace import Trace


class Linear(nn.Module):
    """z = (0, w . x + b): two classes, so that the optimum in any ball is known."""

    def __init__(self, shape: tuple[int, ...], bias: float = 0.0) -> None:
        super().__init__()
        self.w = torch.randn(shape, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
        self.bias = bias

    def forward(self, x: Tensor) -> Tensor:
        score = (x * self.w).flatten(1).sum(1) + self.bias
        return torch.stack([torch.zeros_like(score), score], 1)


@pytest.mark.parametrize("name", ["fgsm", "bim", "pgd", "mim"])
@pytest.mark.parametrize(("norm", "dual"), [("linf", "l1"), ("l2", "l2")])
@pytest.mark.parametrize("targeted", [False, True])
def test_linear_optimum_is_reached_within_one_percent(name: str, norm: str, dual: str, targeted: bool):
    model = Linear((2, 4, 3))
    x = 0.5 + 0.05 * torch.randn((6, 2, 4, 3), generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    y = torch.tensor([0, 1, 0, 1, 0, 1])
    eps = 0.1
    steps = {} if name == "fgsm" else {"steps": 40}
    made = attacks.get(name)(model, x, y, eps=eps, norm=norm, targeted=targeted, stop_early=False, **steps)
    # In the ball, w . x can move by eps times the dual norm of w, and nothing is clipped by the box.
    best = eps * size(model.w[None], dual).item()
    away = torch.where(y == 1, -1.0, 1.0) * (-1.0 if targeted else 1.0)
    moved = ((made - x) * model.w).flatten(1).sum(1)
    assert (moved * away >= 0.99 * best).all()
    assert (moved * away <= best * (1 + 1e-9)).all()


def test_momentum_by_hand_for_two_steps():
    """MIM, eq. 6 and 7 of arXiv:1710.06081, on a curved loss where the accumulated sign differs from the last one's."""

    class Curved(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            a, b = x[:, 0, 0, 0], x[:, 0, 0, 1]
            score = -8 * (a - 0.52) ** 2 + 3 * b  # past 0.52 the gradient along a turns negative
            return torch.stack([torch.zeros_like(score), score], 1)

    x = torch.full((1, 1, 1, 2), 0.5, dtype=torch.float64)
    y = torch.tensor([0])
    model, step = Curved(), 0.025

    def gradient(point: Tensor) -> Tensor:
        point = point.clone().requires_grad_()
        return torch.autograd.grad(nn.functional.cross_entropy(model(point), y), point)[0]

    g0 = gradient(x)
    m1 = g0 / g0.abs().sum()
    x1 = x + step * m1.sign()
    g1 = gradient(x1)
    m2 = 1.0 * m1 + g1 / g1.abs().sum()
    x2 = x1 + step * m2.sign()
    assert g1[0, 0, 0, 0] < 0 < m2[0, 0, 0, 0]  # so that forgetting the momentum, or its L1 scale, would show
    seen = []

    def watched(point: Tensor) -> Tensor:
        seen.append(point.detach().clone())
        return model(point)

    attacks.get("mim")(watched, x, y, eps=0.2, steps=2, step_size=step, stop_early=False)
    for point, expected in zip(seen, (x, x1, x2), strict=True):
        torch.testing.assert_close(point, expected)


def test_momentum_adds_gradients_at_the_same_l1_size():
    """A first gradient a thousand times the second must not drown it."""

    class Cliff(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            a = x[:, 0, 0, 0]
            score = torch.where(a < 0.51, 1000 * (a - 0.51), -1.5 * (a - 0.51) + 0 * a)
            return torch.stack([torch.zeros_like(score), score], 1)

    x = torch.full((1, 1, 1, 1), 0.5, dtype=torch.float64)
    seen = []

    def watched(point: Tensor) -> Tensor:
        seen.append(point.item())
        return Cliff()(point)

    attacks.get("mim")(watched, x, torch.tensor([0]), eps=0.2, steps=3, step_size=0.02, decay=0.9, stop_early=False)
    assert seen == pytest.approx([0.5, 0.52, 0.50, 0.52])  # m: +1, +0.9 - 1 < 0, -0.09 + 1 > 0


def test_one_step_of_bim_is_fgsm(trained: Ensemble, test_images):
    x, y = test_images
    one = attacks.get("bim")(trained, x, y, eps=0.1, steps=1, step_size=0.1)
    assert torch.equal(one, attacks.get("fgsm")(trained, x, y, eps=0.1))
    moved = (one != x).flatten(1).any(1)
    right = trained(x).argmax(1) == y
    assert moved[right].all()


def test_more_steps_and_restarts_never_lose(trained: Ensemble, test_images):
    x, y = test_images

    def standing(**settings) -> Tensor:
        return trained(attacks.get("pgd")(trained, x, y, eps=0.1, generator=3, **settings)).argmax(1) == y

    once, twice, thrice = (standing(restarts=r) for r in (1, 2, 3))
    assert (once >= twice).all()
    assert (twice >= thrice).all()
    assert thrice.sum() < once.sum()
    assert standing(steps=40).sum() < once.sum()


def test_early_stop_changes_no_verdict_and_saves_queries(trained: Ensemble, test_images):
    x, y = test_images
    full, early = Trace(len(x)), Trace(len(x))
    pgd = attacks.get("pgd")
    a = pgd(trained, x, y, eps=0.15, generator=0, stop_early=False, trace=full)
    b = pgd(trained, x, y, eps=0.15, generator=0, trace=early)
    assert torch.equal(trained(a).argmax(1) != y, trained(b).argmax(1) != y)
    assert (full.forwards == 11).all()
    assert (full.backwards == 10).all()
    assert (early.forwards <= full.forwards).all()
    assert early.forwards.sum() < 0.9 * full.forwards.sum()


@pytest.mark.parametrize("norm", ["linf", "l2"])
def test_random_starts_differ_by_sample_and_seed_but_not_by_batch(trained: Ensemble, test_images, norm: str):
    x, y = test_images
    seen = []

    def watched(point: Tensor) -> Tensor:
        seen.append(point.detach().clone())
        return trained(point)

    ids = torch.arange(100, 300)
    pgd = attacks.get("pgd")
    for rows, seed in ((slice(0, 200), 0), (slice(50, 60), 0), (slice(0, 200), 1)):
        pgd(watched, x[rows], y[rows], eps=0.1, norm=norm, steps=1, generator=SampleGenerator(seed, ids[rows]))
    starts = seen[::2]
    assert torch.equal(starts[0][50:60], starts[1])
    assert not torch.equal(starts[0], starts[2])
    assert size(starts[0] - x, norm).max() <= 0.1 + 1e-6
    assert (starts[0] != x).flatten(1).any(1).all()


def test_a_gradient_that_is_not_finite_is_an_error():
    class Broken(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return torch.sqrt(x.flatten(1)[:, :2] - x.flatten(1)[:, :2])

    with pytest.raises(FloatingPointError, match="not finite"):
        attacks.get("pgd")(Broken(), torch.rand(2, 1, 2, 2), torch.tensor([0, 1]), eps=0.1)


# --- the same attacks in two other libraries -----------------------------------------------------------------------

EPS, STEPS = 0.1, 10


def standard_error(share: float, n: int) -> float:
    return math.sqrt(max(share * (1 - share), 1 / n) / n)


def ours(model: Ensemble, x: Tensor, y: Tensor, name: str, **settings) -> float:
    made = attacks.get(name)(model, x, y, eps=EPS, **settings)
    return (model(made).argmax(1) == y).double().mean().item()


@pytest.mark.parametrize("name", ["fgsm", "bim", "pgd", "mim"])
def test_robust_accuracy_equals_torchattacks(trained: Ensemble, test_images, name: str):
    torchattacks = pytest.importorskip("torchattacks")
    x, y = test_images
    step = EPS / 10
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        theirs = {
            "fgsm": lambda: torchattacks.FGSM(trained, eps=EPS),
            "bim": lambda: torchattacks.BIM(trained, eps=EPS, alpha=step, steps=STEPS),
            "pgd": lambda: torchattacks.PGD(trained, eps=EPS, alpha=step, steps=STEPS),
            "mim": lambda: torchattacks.MIFGSM(trained, eps=EPS, alpha=step, steps=STEPS, decay=1.0),
        }[name]()
        accuracy = (trained(theirs(x, y)).argmax(1) == y).double().mean().item()
    gap = ours(trained, x, y, name) - accuracy
    # We keep the best iterate and they the last: ours may be lower by a sample or two, never higher than by chance.
    assert abs(gap) <= 2 * standard_error(accuracy, len(x))
    if name in ("fgsm", "bim"):  # nothing random: never higher at all
        assert gap <= 1e-9


@pytest.mark.parametrize("name", ["fgsm", "bim", "pgd"])
def test_robust_accuracy_equals_foolbox(trained: Ensemble, test_images, name: str):
    foolbox = pytest.importorskip("foolbox")
    x, y = test_images
    theirs = {
        "fgsm": lambda: foolbox.attacks.LinfFastGradientAttack(),
        "bim": lambda: foolbox.attacks.LinfBasicIterativeAttack(rel_stepsize=0.1, steps=STEPS),
        "pgd": lambda: foolbox.attacks.LinfPGD(rel_stepsize=0.1, steps=STEPS),
    }[name]()
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        _, _, success = theirs(foolbox.PyTorchModel(trained, bounds=(0, 1), device="cpu"), x, y, epsilons=EPS)
    accuracy = 1 - success.double().mean().item()
    gap = ours(trained, x, y, name) - accuracy
    assert abs(gap) <= 2 * standard_error(accuracy, len(x))
    if name in ("fgsm", "bim"):
        assert gap <= 1e-9
