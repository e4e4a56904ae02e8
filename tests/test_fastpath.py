"""The crafting copy: equal where it can be, the original where it cannot, and the original is never changed."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from robustkit import models
from robustkit.ensemble import Ensemble, Member
from robustkit.fastpath import crafting_copy


def batch_norms(module: nn.Module) -> int:
    return sum(isinstance(m, nn.BatchNorm2d) for m in module.modules())


def test_folded_copy_is_equal_and_has_no_batch_norm(trained: Ensemble, test_images):
    x, y = test_images
    before = trained.fingerprint()
    folded, kept = crafting_copy(trained, x[:64])
    assert kept == ""
    assert trained.fingerprint() == before
    assert (batch_norms(trained), batch_norms(folded)) == (21, 0)
    torch.testing.assert_close(folded(x), trained(x), atol=1e-4, rtol=1e-4)
    gradients = []
    for model in (trained, folded):
        point = x.clone().requires_grad_()
        gradients.append(torch.autograd.grad(nn.functional.nll_loss(model(point), y), point)[0])
    torch.testing.assert_close(*gradients, atol=1e-5, rtol=1e-3)


class Branching(nn.Module):
    """Cannot be traced: its path depends on the values."""

    def forward(self, x: Tensor) -> Tensor:
        return x.flatten(1)[:, :3] if x.sum() > 0 else x.flatten(1)[:, 1:4]


class Noisy(nn.Module):
    """Can be traced, but tracing freezes the noise: the copy would be a model without this defence."""

    def forward(self, x: Tensor) -> Tensor:
        return x.flatten(1)[:, :3] + 0.01 * torch.randn(3)


def test_members_that_cannot_be_folded_stay_themselves(trained: Ensemble):
    x = torch.rand((4, 1, 8, 8), generator=torch.Generator().manual_seed(0))
    one = Ensemble([Branching(), Noisy()])
    same, kept = crafting_copy(one, x)
    assert same is one
    assert "member 0: TraceError" in kept
    assert "member 1: its logits change" in kept
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        mixed = Ensemble([Member(models.build("small-resnet", 1, 3)), Branching()]).eval()
    part, kept = crafting_copy(mixed, x)
    assert batch_norms(part) == 0
    assert part.members[1] is mixed.members[1]
    assert kept == "member 1: TraceError"
