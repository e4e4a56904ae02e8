"""SDDE and SDDE-OOD against NumPy, with maps worked out without autograd."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from robustkit import defenses
from robustkit.base import options
from robustkit.base.errors import UserError
from robustkit.defenses import Batch, Outputs
from robustkit.defenses.sdde import sdde, standardised
from robustkit.defenses.sdde_ood import sdde_ood

MEMBERS, BATCH, CLASSES, SIDE = 3, 4, 5, 6


def networks(seed: int = 0) -> list[nn.Module]:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return [
            nn.Sequential(nn.Conv2d(1, 4, 3, padding=1), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, CLASSES))
            for _ in range(MEMBERS)
        ]


def outputs(members: list[nn.Module], dtype: torch.dtype = torch.float64) -> Outputs:
    generator = torch.Generator().manual_seed(3)
    members = [m.to(dtype) for m in members]
    own = torch.rand((MEMBERS, BATCH, 1, SIDE, SIDE), generator=generator, dtype=torch.float64).to(dtype)
    y = torch.randint(0, CLASSES, (MEMBERS, BATCH), generator=generator)
    x = torch.rand((BATCH, 1, SIDE, SIDE), generator=generator, dtype=torch.float64).to(dtype)
    labels = torch.randint(0, CLASSES, (BATCH,), generator=generator)
    others = torch.rand((BATCH, 1, SIDE, SIDE), generator=generator, dtype=torch.float64).to(dtype)
    return Outputs(
        torch.stack([m(o) for m, o in zip(members, own, strict=True)]), y, members, Batch(x, labels), (),
        torch.stack([m(others) for m in members]),
    )  # fmt: skip


def cosine_of_maps(given: Outputs) -> float:
    """Work out the term in NumPy: the weight of channel c in these networks is v[y, c] / pixels."""
    assert given.shared is not None
    vectors = []
    for member in given.members:
        a = member[0](given.shared.x).detach().double().numpy()
        v = member[3].weight.detach().double().numpy()[given.shared.y.numpy()] / SIDE**2
        cam = np.maximum(np.einsum("bc,bchw->bhw", v, a), 0)[:, 1:-1, 1:-1].reshape(BATCH, -1)
        cam = (cam - cam.mean(1, keepdims=True)) / (cam.std(1, keepdims=True) + 1e-6)
        vectors.append(cam / (np.linalg.norm(cam, axis=1, keepdims=True) + 1e-6))
    pairs = [(vectors[i] * vectors[j]).sum(1).mean() for i in range(MEMBERS) for j in range(i)]
    return float(2 / (MEMBERS * (MEMBERS - 1)) * sum(pairs))  # the paper's equation 4


def cross_entropy_of_own_batches(given: Outputs) -> float:
    z = given.logits.detach().numpy()
    logs = z - np.log(np.exp(z).sum(2, keepdims=True))
    picked = [-logs[m, b, int(given.y[m, b])] for m in range(MEMBERS) for b in range(BATCH)]
    return float(np.mean(picked))


def test_loss_against_numpy():
    given = outputs(networks())
    cosine = cosine_of_maps(given)
    assert abs(cosine) > 0.01
    for lam in (0.005, 0.1, 3.0):
        expected = cross_entropy_of_own_batches(given) + lam * cosine
        assert float(sdde(given, lam=lam).total.detach()) == pytest.approx(expected, rel=1e-9)
    assert float(sdde(outputs(networks(), torch.float32), lam=3.0).total.detach()) == pytest.approx(expected, rel=1e-4)


def test_equal_members_have_cosine_one_and_opposite_maps_minus_one():
    members = networks()
    equal = sdde(outputs([members[0]] * MEMBERS))
    assert float(equal.parts["cosine"]) == pytest.approx(1, abs=1e-5)
    maps = torch.rand((2, 3, 6, 6), generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    maps[1] = 1 - maps[0]
    first, second = standardised(maps)
    torch.testing.assert_close(first, -second)
    torch.testing.assert_close(first.mean(1), torch.zeros(3, dtype=torch.float64), atol=1e-12, rtol=0)
    torch.testing.assert_close(first.std(1, correction=0), torch.ones(3, dtype=torch.float64), atol=1e-4, rtol=0)
    border = maps.clone()
    border[:, :, 0] = border[:, :, -1] = border[..., 0] = border[..., -1] = 9
    assert torch.equal(standardised(border), standardised(maps))


def test_maps_of_three_pixels_a_side_keep_their_border():
    """Cropped they would be one pixel, which is its own mean: a cosine of 0 whatever the members look at."""
    maps = torch.rand((2, 4, 3, 3), generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    found = standardised(maps)
    assert found.shape == (2, 4, 9)
    torch.testing.assert_close(found.std(2, correction=0), torch.ones((2, 4), dtype=torch.float64), atol=1e-4, rtol=0)
    assert standardised(torch.rand(2, 4, 3, 7)).shape == (2, 4, 21)
    assert standardised(torch.rand(2, 4, 4, 4)).shape == (2, 4, 4)


def test_saliency_maps_against_finite_differences_of_the_logits():
    given = outputs(networks())
    assert given.shared is not None
    x, y, h = given.shared.x, given.shared.y, 1e-6
    vectors = []
    for member in given.members:
        gradient = torch.zeros_like(x)
        for pixel in range(SIDE**2):
            step = torch.zeros(SIDE**2, dtype=x.dtype)
            step[pixel] = h
            step = step.reshape(SIDE, SIDE)
            with torch.no_grad():
                slope = (member(x + step) - member(x - step)).gather(1, y[:, None])[:, 0] / (2 * h)
            gradient[:, 0, pixel // SIDE, pixel % SIDE] = slope
        vectors.append(nn.functional.normalize(gradient.flatten(1), dim=1))
    expected = np.mean([(vectors[i] * vectors[j]).sum(1).mean() for i in range(MEMBERS) for j in range(i)])
    assert float(sdde(given, maps="saliency").parts["cosine"]) == pytest.approx(expected, abs=1e-4)


def test_descent_drives_maps_apart_and_a_large_weight_more():
    def trained(lam: float) -> float:
        members = networks()
        given = outputs(members)
        optimiser = torch.optim.SGD([p for m in members for p in m.parameters()], lr=0.1)
        for _ in range(60):
            optimiser.zero_grad()
            loss = sdde(outputs(members), lam=lam)
            loss.total.backward()
            optimiser.step()
        return cosine_of_maps(given)

    assert trained(1.0) < trained(0.0) - 0.2


def test_outliers_add_the_cross_entropy_to_uniform():
    given = outputs(networks())
    assert given.outliers is not None
    z = given.outliers.detach().numpy()
    logs = z - np.log(np.exp(z).sum(2, keepdims=True))
    expected = float(np.mean([-(1 / CLASSES) * logs[m, b].sum() for m in range(MEMBERS) for b in range(BATCH)]))
    loss = sdde_ood(given, outliers="digits", lam=0.1, beta=0.5)
    assert float(loss.parts["outliers"]) == pytest.approx(expected, rel=1e-9)
    assert float((loss.total - sdde(given, lam=0.1).total).detach()) == pytest.approx(0.5 * expected, rel=1e-9)
    assert torch.equal(sdde_ood(given, outliers="digits", lam=0.1, beta=0.0).total, sdde(given, lam=0.1).total)


def test_outliers_have_to_be_named_and_given():
    with pytest.raises(UserError, match=r"needs a value for 'outliers': --set sdde-ood.outliers="):
        options.resolve(defenses.defense.entry("sdde-ood"), {})
    given = outputs(networks())
    without = Outputs(given.logits, given.y, given.members, given.shared)
    with pytest.raises(ValueError, match="'sdde-ood' needs Outputs with outliers"):
        sdde_ood(without, outliers="digits")
    with pytest.raises(ValueError, match="it needs Outputs with members and shared"):
        sdde(Outputs(given.logits, given.y))


def test_logits_of_own_batches_are_scored_with_their_own_labels():
    given = outputs(networks())
    swapped = Outputs(given.logits.flip(0), given.y.flip(0), given.members, given.shared)
    torch.testing.assert_close(sdde(swapped).total, sdde(given).total)
    wrong = Outputs(given.logits.flip(0), given.y, given.members, given.shared)
    assert not torch.isclose(sdde(wrong).total, sdde(given).total)


def peaked(*indices: int) -> Tensor:
    maps = torch.zeros(len(indices), 1, 6, 6)
    for member, index in enumerate(indices):
        maps[member, 0, 1 + index // 4, 1 + index % 4] = 1
    return maps


def test_cosine_by_hand_of_single_peaks():
    # A peak among 16 pixels: mean 1/16; two different peaks have the cosine -1/15 after centring, equal ones 1.
    from robustkit.defenses._terms import pair_cosine

    assert float(pair_cosine(standardised(peaked(2, 9)))) == pytest.approx(-1 / 15, abs=1e-4)
    assert float(pair_cosine(standardised(peaked(2, 9, 9)))) == pytest.approx((1 - 2 / 15) / 3, abs=1e-4)


@pytest.mark.parametrize("level", [0.0, 0.5])
def test_maps_without_contrast_have_a_gradient_of_zero(level: float):
    maps = torch.full((2, 3, 6, 6), level, requires_grad=True)
    inner = standardised(maps)
    (gradient,) = torch.autograd.grad((inner * inner).sum(), maps)
    assert torch.equal(inner, torch.zeros_like(inner))
    assert torch.equal(gradient, torch.zeros_like(gradient))
