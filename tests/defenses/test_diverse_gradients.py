"""GAL, TRS and DVERGE against NumPy and autograd, on networks whose gradients are known."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from robustkit import defenses, models
from robustkit.base.errors import UserError
from robustkit.defenses import Batch, Outputs
from robustkit.defenses._distillation import distilled, features
from robustkit.defenses._terms import pair_cosines, scale_free
from robustkit.defenses.dverge import dverge
from robustkit.defenses.gal import gal
from robustkit.defenses.trs import lengths, roughest, trs
from robustkit.ensembles.ensemble import Ensemble, Member
from robustkit.functional.attribution import loss_gradients

SIDE, CLASSES, BATCH = 4, 5, 6


def linear(count: int) -> list[nn.Module]:
    torch.manual_seed(3)
    return [nn.Sequential(nn.Flatten(), nn.Linear(2 * SIDE**2, CLASSES)).double() for _ in range(count)]


def curved(count: int) -> list[nn.Module]:
    torch.manual_seed(4)
    inputs = 2 * SIDE**2
    return [
        nn.Sequential(nn.Flatten(), nn.Linear(inputs, 7), nn.Tanh(), nn.Linear(7, CLASSES)).double()
        for _ in range(count)
    ]


def outputs(members: list[nn.Module]) -> Outputs:
    generator = torch.Generator().manual_seed(1)
    x = torch.rand((BATCH, 2, SIDE, SIDE), generator=generator, dtype=torch.float64)
    y = torch.randint(0, CLASSES, (BATCH,), generator=generator)
    return Outputs(torch.stack([m(x) for m in members]), y, members, Batch(x, y))


def by_hand(members: list[nn.Module], x: Tensor, y: Tensor) -> np.ndarray:
    """W^T (p - onehot), the gradient of the cross-entropy of linear networks, (M, B, D)."""
    found = []
    for member in members:
        weight, bias = (p.detach().numpy() for p in (member[1].weight, member[1].bias))  # type: ignore[union-attr]
        z = x.flatten(1).numpy() @ weight.T + bias
        p = np.exp(z - z.max(1, keepdims=True))
        p /= p.sum(1, keepdims=True)
        p[np.arange(len(y)), y.numpy()] -= 1
        found.append(p @ weight)
    return np.stack(found)


def cosines(g: np.ndarray) -> np.ndarray:
    unit = g / np.linalg.norm(g, axis=2, keepdims=True)
    pairs = [(i, j) for i in range(len(g)) for j in range(i + 1, len(g))]
    return np.stack([(unit[i] * unit[j]).sum(1) for i, j in pairs], 1)


@pytest.mark.parametrize("count", [2, 3, 5])
def test_gal_against_numpy(count: int):
    given = outputs(linear(count))
    assert given.shared is not None
    cos = cosines(by_hand(list(given.members), given.shared.x, given.y))
    ce = float(nn.functional.cross_entropy(given.logits.flatten(0, 1), given.y.repeat(count)).detach())
    found = gal(given, lam=0.7)
    wanted = ce + 0.7 * np.log(np.exp(cos).sum(1)).mean()
    assert float(found.total.detach()) == pytest.approx(wanted, rel=1e-6)
    assert float(found.parts["coherence"]) == pytest.approx(cos.max(1).mean(), abs=1e-6)


@pytest.mark.parametrize("scale", [1.0, 1e-12])
def test_coherence_of_parallel_and_of_orthogonal_gradients(scale: float):
    axes = scale * torch.eye(4, dtype=torch.float64)
    orthogonal = torch.stack([axes, axes.roll(1, 0), axes.roll(2, 0)])
    assert pair_cosines(scale_free(orthogonal)).abs().max() < 1e-12
    parallel = torch.stack([axes, 3 * axes, 0.1 * axes])
    assert pair_cosines(scale_free(parallel)).sub(1).abs().max() < 2e-6


def test_trs_against_numpy_at_the_images_alone():
    given = outputs(linear(3))
    assert given.shared is not None
    g = by_hand(list(given.members), given.shared.x, given.y)
    ce = sum(float(nn.functional.cross_entropy(z, given.y).detach()) for z in given.logits)
    found = trs(given, similarity=2.0, smoothness=0.3, steps=0)
    wanted = ce + 2 * np.abs(cosines(g)).mean() + 0.3 * np.linalg.norm(g, axis=2).mean()
    assert float(found.total.detach()) == pytest.approx(wanted, rel=1e-6)


@pytest.mark.parametrize("loss", [gal, trs])
def test_the_weights_get_the_second_derivatives(loss):
    members = curved(2)
    weights = [p for m in members for p in m.parameters()]

    def total(*values: Tensor) -> Tensor:
        for p, value in zip(weights, values, strict=True):
            p.data = value.data
        if loss is trs:
            return trs(outputs(members), steps=0, smoothness=0.5).total
        return gal(outputs(members)).total

    start = [p.detach().clone() for p in weights]
    value = total(*start)
    gradients = torch.autograd.grad(value, weights)
    generator = torch.Generator().manual_seed(0)
    for index, gradient in enumerate(gradients):
        way = torch.randn(start[index].shape, generator=generator, dtype=torch.float64)
        ahead, behind = (
            float(total(*[s + sign * 1e-5 * way if at == index else s for at, s in enumerate(start)]).detach())
            for sign in (1, -1)
        )
        assert (ahead - behind) / 2e-5 == pytest.approx(float((gradient * way).sum()), rel=2e-5, abs=1e-8)


def test_gradients_are_longer_where_they_were_looked_for():
    members, given = curved(3), outputs(curved(3))
    assert given.shared is not None
    x, y = given.shared.x, given.y
    before = lengths(members, x, y)
    found = roughest(members, x, y, 0.2, 6)
    assert (found - x).abs().max() <= 0.2 + 1e-12
    assert found.min() >= 0
    assert found.max() <= 1
    assert (lengths(members, found, y) > before).float().mean() > 0.8
    assert torch.equal(roughest(members, x, y, 0.2, 0), x)
    assert not roughest(members, x, y, 0.2, 2).requires_grad


def test_loss_gradients_are_those_of_each_sample_alone():
    members, given = curved(2), outputs(curved(2))
    assert given.shared is not None
    whole = loss_gradients(members, given.shared.x, given.y)
    first = loss_gradients(members, given.shared.x[:1], given.y[:1])
    torch.testing.assert_close(whole[:, :1], first)


def small_ensemble(count: int = 3) -> Ensemble:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(count)
        return Ensemble([Member(models.build("small-resnet", 1, 10)) for _ in range(count)]).eval()


@pytest.mark.parametrize("depth", [0.0, 0.5, 0.99])
def test_distillation_brings_the_features_nearer(depth: float):
    member = small_ensemble(2).members[0]
    generator = torch.Generator().manual_seed(5)
    x, target = (torch.rand((12, 1, 8, 8), generator=generator) for _ in range(2))
    found = distilled(member, x, target, depth, 0.1, 10)
    layers = [m for m in member.modules() if isinstance(m, nn.Conv2d | nn.Linear)]
    for layer in (layers[0], layers[-1]) if depth in (0.0, 0.99) else ():
        if (layer is layers[0]) == (depth == 0.0):
            with torch.no_grad():
                apart = [(features(member, layer, z) - features(member, layer, target)).flatten(1).norm(dim=1)
                         for z in (x, found)]  # fmt: skip
            assert (apart[1] < apart[0]).all()
    assert (found - x).abs().max() <= 0.1 + 1e-6
    assert not torch.equal(found, x)
    assert all(p.grad is None for p in member.parameters())


@pytest.mark.parametrize("adversarial", [0.0, 0.03])
def test_each_member_learns_from_the_images_of_the_others(adversarial: float):
    ensemble = small_ensemble()
    generator = torch.Generator().manual_seed(5)
    x, y = torch.rand((8, 1, 8, 8), generator=generator), torch.arange(8)
    images, labels = dverge(
        ensemble, x, y, steps=3, adversarial=adversarial, generator=torch.Generator().manual_seed(6)
    )
    others = 2 + bool(adversarial)
    assert images.shape == (3, others * 8, 1, 8, 8)
    assert torch.equal(labels, y.repeat(others).expand(3, -1))
    of = {(0, 1): images[0, :8], (0, 2): images[0, 8:16], (1, 0): images[1, :8], (1, 2): images[1, 8:16]}
    assert torch.equal(of[0, 2], of[1, 2])  # those of member 2 are shown to both others
    assert not torch.equal(of[0, 1], of[1, 0])
    assert (images - x.repeat(others, 1, 1, 1)).abs().max() <= 0.07 + 1e-6
    again, _ = dverge(ensemble, x, y, steps=3, adversarial=adversarial, generator=torch.Generator().manual_seed(6))
    assert torch.equal(images, again)
    if adversarial:
        assert (images[:, 16:] - x).abs().max() <= adversarial + 1e-6
        assert not torch.equal(images[0, 16:], images[1, 16:])


@pytest.mark.parametrize(
    ("name", "params", "said"),
    [
        ("gal", {}, "compares members and needs at least 2"), ("trs", {}, "compares members and needs at least 2"),
        ("dverge", {}, "compares members and needs at least 2"), ("dverge", {"eps": 0.0}, "must be above 0"),
        ("trs", {"eps": 0.0}, "must be above 0"),
    ],
)  # fmt: skip
def test_what_makes_no_sense_is_refused(name: str, params: dict[str, float], said: str):
    with pytest.raises(UserError, match=said):
        defenses.check(name, params, 2 if params else 1, 10)


def test_members_without_layers_are_told():
    class Bare(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return x.flatten(1)[:, :10]

    with pytest.raises(UserError, match="no convolution or linear layer"):
        distilled(Bare(), torch.rand(2, 1, 8, 8), torch.rand(2, 1, 8, 8), 0.5, 0.1, 2)
