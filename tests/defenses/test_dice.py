"""DICE: its estimate against closed forms, who is moved by which term, and that the game makes features independent."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from robustkit.base.errors import UserError
from robustkit.defenses import Outputs
from robustkit.defenses.dice import Discriminator, dice, discriminator, discriminator_loss, same_class_partners

MEMBERS, BATCH, WIDTH, CLASSES = 3, 12, 5, 4


def given(dtype: torch.dtype = torch.float64, grad: bool = False) -> Outputs:
    generator = torch.Generator().manual_seed(0)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(1)
        companion = discriminator([WIDTH] * MEMBERS, CLASSES).to(dtype)
    logits = torch.randn((MEMBERS, BATCH, CLASSES), generator=generator, dtype=torch.float64).to(dtype)
    features = [torch.randn((BATCH, WIDTH), generator=generator, dtype=torch.float64).to(dtype) for _ in range(MEMBERS)]
    y = torch.arange(BATCH) % CLASSES
    return Outputs(
        logits.requires_grad_(grad), y, features=tuple(f.requires_grad_(grad) for f in features), companion=companion
    )


def score(module: nn.Module, *inputs: Tensor) -> np.ndarray:
    """Apply the discriminator in NumPy."""
    first, second, y = inputs
    rows = np.concatenate([first.detach().numpy(), second.detach().numpy(), module.label.weight[y].detach().numpy()], 1)
    linear = [layer for layer in module.layers if isinstance(layer, nn.Linear)]
    for layer in linear:
        rows = rows @ layer.weight.detach().numpy().T + layer.bias.detach().numpy()
        if layer is not linear[-1]:
            rows = np.where(rows > 0, rows, 0.2 * rows)
    return rows[:, 0]


def test_sizes_are_those_of_the_public_code():
    module = Discriminator(512, 100)
    assert [tuple(p.shape) for p in module.parameters() if p.dim() == 2] == [
        (100, 64), (256, 2 * 512 + 64), (256, 256), (100, 256), (1, 100),
    ]  # fmt: skip
    with pytest.raises(UserError, match=r"different numbers of them \(64, 32\)"):
        discriminator([64, 32], 10)


def test_loss_against_numpy():
    outputs, tau = given(), 0.05
    pairs = [(i, j) for i in range(MEMBERS) for j in range(i + 1, MEMBERS)]
    f, y, d = outputs.features, outputs.y, outputs.companion
    assert d is not None
    odds = [score(d, f[i], f[j], y) for i, j in pairs]
    redundancy = np.mean([tau * np.tanh(o / tau) for o in odds])
    partner = (torch.arange(BATCH) + CLASSES) % BATCH  # the next one of the class, here every fourth
    crossed = [score(d, f[i], f[j][partner], y) for i, j in pairs]
    own = np.mean([0.5 * (np.log1p(np.exp(-a)) + np.log1p(np.exp(b))) for a, b in zip(odds, crossed, strict=True)])
    ce = torch.nn.functional.cross_entropy(outputs.logits.flatten(0, 1), y.repeat(MEMBERS)).item()
    found = dice(outputs, weight=0.7, tau=tau)
    assert abs(redundancy - np.mean(odds)) > 1e-3  # the clipping shows
    assert float(found.parts["redundancy"]) == pytest.approx(redundancy, rel=1e-9)
    assert float(found.parts["discriminator"]) == pytest.approx(own, rel=1e-9)
    assert float(found.total.detach()) == pytest.approx(ce + 0.7 * redundancy + own, rel=1e-9)


def test_members_and_discriminator_are_moved_by_their_own_terms_only():
    outputs = given(grad=True)
    module = outputs.companion
    assert module is not None
    weights = list(module.parameters())
    total = dice(outputs, weight=0.7, tau=10.0).total
    found = torch.autograd.grad(total, [*outputs.features, *weights])
    detached = [f.detach() for f in outputs.features]
    expected = torch.autograd.grad(discriminator_loss(module, detached, outputs.y), weights)
    for ours, theirs in zip(found[MEMBERS:], expected, strict=True):
        torch.testing.assert_close(ours, theirs)
    for weight in (0.0, 1.4):  # the members' part is proportional to its weight, the discriminator's does not know it
        again = torch.autograd.grad(dice(outputs, weight=weight, tau=10.0).total, [*outputs.features, *weights])
        for ours, theirs in zip(again, found, strict=True):
            factor = weight / 0.7 if any(ours is a for a in again[:MEMBERS]) else 1.0
            torch.testing.assert_close(ours, factor * theirs)


def test_the_members_gradient_is_that_of_the_redundancy_with_the_discriminator_held():
    outputs = given(grad=True)

    def redundancy(*features: Tensor) -> Tensor:
        moved = Outputs(outputs.logits[:, :3], outputs.y[:3], features=features, companion=outputs.companion)
        with torch.no_grad():
            held = float(dice(moved, weight=0.0).total)
        return dice(moved, weight=1.0).total - held  # as a number: without the other terms

    assert torch.autograd.gradcheck(redundancy, [f[:3].detach().requires_grad_() for f in outputs.features])


def test_partners_are_the_next_of_a_class_and_lonely_samples_have_none():
    rows, partners = same_class_partners(torch.tensor([2, 0, 2, 1, 0, 2]))
    assert dict(zip(rows.tolist(), partners.tolist(), strict=True)) == {1: 4, 4: 1, 0: 2, 2: 5, 5: 0}
    rows, _ = same_class_partners(torch.tensor([3, 1, 2]))
    assert not len(rows)
    outputs = given()
    assert outputs.companion is not None
    features = [f[:4] for f in outputs.features]  # each class once
    assert float(discriminator_loss(outputs.companion, features, outputs.y[:4])) == 0


class Ideal(nn.Module):
    """The log odds that the best discriminator has: log p(a, b | y) / (p(a | y) p(b | y)) of correlated normals."""

    def __init__(self, rho: float) -> None:
        super().__init__()
        self.rho = nn.Parameter(torch.tensor(rho, dtype=torch.float64))

    def forward(self, first: Tensor, second: Tensor, y: Tensor) -> Tensor:
        a, b, r = first[:, 0], second[:, 0], self.rho
        return -0.5 * torch.log(1 - r**2) - (r**2 * (a**2 + b**2) - 2 * r * a * b) / (2 * (1 - r**2))


def correlated(rho: float, count: int, seed: int = 0) -> tuple[tuple[Tensor, ...], Tensor]:
    generator = torch.Generator().manual_seed(seed)
    a, noise = torch.randn((2, count, 1), generator=generator, dtype=torch.float64)
    return (a, rho * a + math.sqrt(1 - rho**2) * noise), torch.randint(0, 2, (count,), generator=generator)


def test_estimate_of_the_best_discriminator_is_the_mutual_information():
    features, y = correlated(0.8, 200_000)
    logits = torch.zeros(2, len(y), 2, dtype=torch.float64)
    found = dice(Outputs(logits, y, features=features, companion=Ideal(0.8)), tau=1e4)
    # Of two normals with correlation r: -log(1 - r^2) / 2.
    assert float(found.parts["redundancy"]) == pytest.approx(-0.5 * math.log(1 - 0.8**2), abs=0.01)
    worse = [float(discriminator_loss(Ideal(r), features, y).detach()) for r in (0.6, 0.8, 0.9)]
    assert worse[1] == min(worse)


def test_a_trained_discriminator_finds_what_features_share():
    def learnt(rho: float) -> float:
        features, y = correlated(rho, 2048)
        features = tuple(f.float() for f in features)
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)
            module = discriminator([1, 1], 2)
        optimiser = torch.optim.Adam(module.parameters(), lr=3e-3)
        for step in range(100):
            rows = slice(512 * (step % 4), 512 * (step % 4) + 512)
            optimiser.zero_grad()
            discriminator_loss(module, [f[rows] for f in features], y[rows]).backward()
            optimiser.step()
        whole = Outputs(torch.zeros(2, len(y), 2), y, features=features, companion=module)
        return float(dice(whole).parts["redundancy"])

    assert learnt(0.0) == pytest.approx(0, abs=0.1)
    assert learnt(0.95) == pytest.approx(-0.5 * math.log(1 - 0.95**2), abs=0.35)  # 1.16


def test_the_game_makes_features_independent_given_the_label():
    # Two members add a common disturbance c to what the label says; each may turn c off. Only the game makes it so.
    def share_left(weight: float, steps: int) -> float:
        generator = torch.Generator().manual_seed(0)
        amount = torch.ones(2, requires_grad=True)
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)
            module = discriminator([1, 1], 2)
        optimiser = torch.optim.Adam([amount, *module.parameters()], lr=1e-2)
        for _ in range(steps):
            y = torch.randint(0, 2, (256,), generator=generator)
            common, *own = torch.randn((3, 256, 1), generator=generator)
            features = tuple(y[:, None] + 0.3 * n + a * common for n, a in zip(own, amount, strict=True))
            logits = torch.stack([torch.cat([-f, f], 1) for f in features]).detach()
            optimiser.zero_grad()
            dice(Outputs(logits, y, features=features, companion=module), weight=weight).total.backward()
            optimiser.step()
        return float((amount[0] * amount[1]).detach().abs())

    assert share_left(1.0, steps=250) < 0.3
    assert share_left(0.0, steps=25) == pytest.approx(1.0)  # Adam would move it by 0.01 in each, however small a slope


def test_features_or_companion_missing_is_said():
    outputs = given()
    for missing in (Outputs(outputs.logits, outputs.y, companion=outputs.companion),
                    Outputs(outputs.logits, outputs.y, features=outputs.features)):  # fmt: skip
        with pytest.raises(ValueError, match="'dice' needs Outputs with features of each member and its companion"):
            dice(missing)
