"""Residual networks computed as one: the same numbers and gradients, or not computed so at all."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import Tensor, nn

from robustkit import models
from robustkit.ensembles import fastpath
from robustkit.ensembles.ensemble import Ensemble, Member
from robustkit.ensembles.merged import MergedEnsemble, mergeable


def members(arch: str = "small-resnet", count: int = 3, channels: int = 1) -> list[Member]:
    """Return networks whose normalisation, weights and running statistics all differ."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(1)
        made = [
            Member(models.build(arch, channels, 10), [0.1 * i] * channels, [1.0 + i] * channels) for i in range(count)
        ]
        for member in made:
            member.train()(torch.rand(8, channels, 8, 8))  # moves the running statistics
    return made


def images(channels: int = 1, size: tuple[int, int] = (8, 8)) -> Tensor:
    return torch.rand((6, channels, *size), generator=torch.Generator().manual_seed(2))


def plain(of: list[Member], x: Tensor) -> Tensor:
    return torch.stack([member(x) for member in of])


@pytest.mark.parametrize(("arch", "channels", "size"), [
    ("small-resnet", 1, (8, 8)), ("small-resnet", 3, (12, 7)), ("resnet20", 3, (16, 16)),
])  # fmt: skip
def test_logits_and_gradients_of_images_are_those_of_each_member(arch: str, channels: int, size: tuple[int, int]):
    three = [member.eval() for member in members(arch, channels=channels)]
    x = images(channels, size).requires_grad_()
    expected, found = plain(three, x), MergedEnsemble(Ensemble(three)).member_logits(x)
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-5)
    weigh = torch.rand(expected.shape, generator=torch.Generator().manual_seed(3))
    torch.testing.assert_close(
        torch.autograd.grad((found * weigh).sum(), x)[0], torch.autograd.grad((expected * weigh).sum(), x)[0],
        rtol=1e-3, atol=1e-5,
    )  # fmt: skip


def test_a_crafting_copy_has_no_batch_norm_and_no_gradient_of_weights():
    ensemble = Ensemble(members()).eval()
    x = images()
    folded = fastpath._channels_last(fastpath._folded(ensemble, x)[0])
    merged = MergedEnsemble(folded)
    with torch.inference_mode():  # what is joined here is used with gradients below
        merged(x)
    point = x.clone().requires_grad_()
    torch.testing.assert_close(merged(point), ensemble(x), rtol=1e-4, atol=1e-5)
    gradient = torch.autograd.grad(merged(point).amax(1).sum(), point)[0]
    point = x.clone().requires_grad_()
    torch.testing.assert_close(
        gradient, torch.autograd.grad(ensemble(point).amax(1).sum(), point)[0], rtol=1e-3, atol=1e-5
    )
    torch.testing.assert_close(copy.deepcopy(merged)(x), merged(x))
    torch.testing.assert_close(merged.view("member-1")(x), ensemble.view("member-1")(x), rtol=1e-4, atol=1e-5)
    assert not any(p.requires_grad for p in merged.parameters())


class Other(models.get("small-resnet")(channels=1, classes=10).__class__):
    """A network of somebody who changed what a forward pass does."""


def test_what_is_not_sure_to_be_the_same_is_not_merged():
    three = [member.eval() for member in members()]
    assert mergeable(three)
    assert not mergeable(three[:1])
    assert not mergeable([*three[:2], members("lenet")[0].eval()])
    assert not mergeable([*three[:2], members(channels=3)[0].eval()])
    assert not mergeable([three[0].network, three[1].network])  # without a normalisation
    assert not mergeable([*three[:2], copy.deepcopy(three[2]).train()])
    finer = copy.deepcopy(three[2])
    finer.network.bn1.eps = 1e-7
    assert not mergeable([*three[:2], finer])
    changed = copy.deepcopy(three)
    for member in changed:
        member.network.layer1[0].bn2 = nn.GroupNorm(4, 16).eval()
    assert not mergeable(changed)
    assert not mergeable([Member(Other(1, 1, 10)).eval() for _ in range(2)])
    part = three[1].network.layer1[0]
    for register in ("forward_hook", "forward_pre_hook", "full_backward_hook", "full_backward_pre_hook"):
        hook = getattr(part, f"register_{register}")(lambda *_: None)  # somebody looks inside, or has gradients changed
        assert not mergeable(three), register
        hook.remove()
    part.forward = part.forward
    assert not mergeable(three)
    del part.forward
    assert mergeable(three)
