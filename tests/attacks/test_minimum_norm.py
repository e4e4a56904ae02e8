"""DeepFool and FMN: closed-form distances on a linear model, foolbox's and torchattacks' on a real one."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor, nn

from robustkit.attacks.deepfool import deepfool
from robustkit.attacks.fmn import fmn
from robustkit.ensembles.ensemble import Ensemble
from robustkit.functional.losses import margin
from robustkit.functional.norms import onto_ball, size

DUAL = {"linf": "l1", "l2": "l2", "l1": "linf"}


def linear() -> tuple[nn.Module, Tensor, Tensor, Tensor]:
    """A two-class linear model, images in the middle of the box, labels, and the normal of the boundary."""
    model = nn.Sequential(nn.Flatten(), nn.Linear(48, 2)).double()
    model[1].weight.data = torch.randn(2, 48, generator=torch.Generator().manual_seed(3)).double()
    x = 0.45 + 0.1 * torch.rand((8, 3, 4, 4), generator=torch.Generator().manual_seed(1)).double()
    model[1].bias.data = -model(x).mean(0)
    return model, x, model(x).argmax(1), (model[1].weight[1] - model[1].weight[0]).detach()[None]


@pytest.mark.parametrize("norm", ["linf", "l2", "l1"])
def test_fmn_finds_the_nearest_point_of_a_linear_boundary(norm: str):
    model, x, y, w = linear()
    least = -margin(model(x), y).detach() / size(w, DUAL[norm])
    made = fmn(model, x, y, norm=norm)
    assert (model(made).argmax(1) != y).all()
    torch.testing.assert_close(size(made - x, norm), least, rtol=0.01, atol=0)


def test_fmn_l0_changes_as_few_elements_as_can_be():
    model, x, y, w = linear()
    model[1].bias.data[0] += 3  # a larger gap needs more elements
    y = model(x).argmax(1)
    toward = w * (1 - 2 * y[:, None])
    gain = torch.where(toward > 0, toward * (1 - x.flatten(1)), -toward * x.flatten(1))
    total = gain.sort(descending=True).values.cumsum(1)
    least = (total <= -margin(model(x), y).detach()[:, None]).sum(1) + 1.0
    assert least.max() >= 2
    made = fmn(model, x, y, norm="l0")
    assert (model(made).argmax(1) != y).all()
    assert (size(made - x, "l0") <= least + 1).all()
    assert (size(made - x, "l0") == least).double().mean() >= 0.75


@pytest.mark.parametrize("norm", ["linf", "l2"])
def test_deepfool_overshoots_a_linear_boundary_by_what_it_was_told(norm: str):
    model, x, y, w = linear()
    least = -margin(model(x), y).detach() / size(w, DUAL[norm])
    made = deepfool(model, x, y, norm=norm, overshoot=0.02, search_steps=0)
    torch.testing.assert_close(size(made - x, norm), 1.02 * least, rtol=1e-6, atol=0)
    made = deepfool(model, x, y, norm=norm)
    assert (model(made).argmax(1) != y).all()
    torch.testing.assert_close(size(made - x, norm), least, rtol=1e-3, atol=0)


@pytest.mark.parametrize("norm", ["linf", "l2", "l1", "l0"])
def test_onto_ball_is_the_nearest_point(norm: str):
    g = torch.Generator().manual_seed(0)
    d, r = torch.randn((20, 15), generator=g).double(), torch.rand(20, generator=g).double() * 3 + 0.2
    r = r.ceil() if norm == "l0" else r
    p = onto_ball(d, r, norm)
    assert (size(p, norm) <= r + 1e-9).all()
    inside = onto_ball(p, r, norm)
    torch.testing.assert_close(inside, p)
    rivals = torch.randn((2000, 20, 15), generator=g).double() * 0.3 + p
    rivals = rivals * (p != 0) if norm == "l0" else rivals
    flat = rivals.flatten(0, 1)
    allowed = (size(flat, norm) <= r.repeat(2000) + 1e-12).view(2000, 20)
    assert allowed.any()
    nearer = (rivals - d).norm(dim=2) < (p - d).norm(dim=1) - 1e-9
    assert not (nearer & allowed).any()


def median(model: nn.Module, x: Tensor, y: Tensor, made: Tensor, norm: str) -> float:
    """The median distortion over what was right, a failure being infinitely far."""
    right = model(x).argmax(1) == y
    away = size(made - x, norm)
    return away.masked_fill(model(made).argmax(1) == y, math.inf)[right].median().item()


@pytest.mark.parametrize("norm", ["linf", "l1", "l0"])
def test_fmn_is_no_farther_than_foolbox(network: nn.Module, test_images: tuple[Tensor, Tensor], norm: str):
    foolbox = pytest.importorskip("foolbox")
    x, y = (t[:60] for t in test_images)
    peer = {"linf": "LInfFMNAttack", "l1": "L1FMNAttack", "l0": "L0FMNAttack"}[norm]
    wrapped = foolbox.PyTorchModel(network, bounds=(0, 1), device="cpu")
    theirs = getattr(foolbox.attacks, peer)(steps=40).run(wrapped, x, foolbox.criteria.Misclassification(y))
    ours = fmn(network, x, y, norm=norm, steps=40)
    assert median(network, x, y, ours, norm) <= 1.02 * median(network, x, y, theirs, norm)
    right = network(x).argmax(1) == y
    assert (network(ours).argmax(1) != y)[right].all()  # foolbox's l1 leaves about a fifth of them unbroken


def test_foolbox_fmn_l2_does_not_project(trained: Ensemble, test_images: tuple[Tensor, Tensor]):
    """Its l2 projection multiplies by norms / norms = 1, so that its l2 distortions are far from minimal."""
    foolbox = pytest.importorskip("foolbox")
    import eagerpy

    far = foolbox.attacks.L2FMNAttack().project(
        eagerpy.astensor(torch.full((1, 4), 5.0)), eagerpy.astensor(torch.zeros(1, 4)), eagerpy.astensor(torch.ones(1))
    )
    assert far.raw.norm().item() == pytest.approx(10.0)  # asked for 1
    x, y = (t[:40] for t in test_images)
    wrapped = foolbox.PyTorchModel(trained, bounds=(0, 1), device="cpu")
    theirs = foolbox.attacks.L2FMNAttack(steps=30).run(wrapped, x, foolbox.criteria.Misclassification(y))
    assert median(trained, x, y, fmn(trained, x, y, norm="l2", steps=30), "l2") < 0.8 * median(
        trained, x, y, theirs, "l2"
    )


@pytest.mark.parametrize("norm", ["linf", "l2"])
def test_deepfool_is_no_farther_than_foolbox(trained: Ensemble, test_images: tuple[Tensor, Tensor], norm: str):
    foolbox = pytest.importorskip("foolbox")
    x, y = (t[:40] for t in test_images)
    wrapped = foolbox.PyTorchModel(trained, bounds=(0, 1), device="cpu")
    peer = {"linf": foolbox.attacks.LinfDeepFoolAttack, "l2": foolbox.attacks.L2DeepFoolAttack}[norm](steps=20)
    theirs = peer.run(wrapped, x, foolbox.criteria.Misclassification(y))
    ours = deepfool(trained, x, y, norm=norm, steps=20)
    assert median(trained, x, y, ours, norm) <= 1.02 * median(trained, x, y, theirs, norm)


def test_torchattacks_deepfool_stalls_at_the_edge_of_the_box(network, test_images: tuple[Tensor, Tensor]):
    """Its steps are spent on pixels that are then clipped: black images are not broken. Ours keep to the box."""
    torchattacks = pytest.importorskip("torchattacks")
    right = network(test_images[0]).argmax(1) == test_images[1]
    x, y = (t[right][:16] for t in test_images)
    theirs = network(torchattacks.DeepFool(network, steps=15)(x, y)).argmax(1) != y
    ours = network(deepfool(network, x, y, steps=15)).argmax(1) != y
    assert ours.all()
    assert theirs.double().mean() < 0.95
