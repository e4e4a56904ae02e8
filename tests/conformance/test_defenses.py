"""Every registered defence is one finite, differentiable scalar that does not care for the order of the batch."""

from __future__ import annotations

import pytest
import torch

from robustkit import defenses
from robustkit.defenses import Outputs, defense


@pytest.mark.parametrize("name", defense.names())
@pytest.mark.parametrize("members", [1, 3, 5])
def test_loss_is_a_finite_scalar_that_moves_every_member(name: str, members: int):
    generator = torch.Generator().manual_seed(0)
    logits = torch.randn((members, 16, 10), generator=generator).requires_grad_()
    y = torch.randint(0, 10, (16,), generator=generator)
    loss = defenses.get(name)(Outputs(logits, y))
    assert loss.total.shape == ()
    assert torch.isfinite(loss.total)
    assert all(not part.requires_grad and torch.isfinite(part) for part in loss.parts.values())
    (gradient,) = torch.autograd.grad(loss.total, logits)
    assert torch.isfinite(gradient).all()
    assert (gradient.abs().amax((1, 2)) > 0).all()
    order = torch.randperm(16, generator=generator)
    torch.testing.assert_close(defenses.get(name)(Outputs(logits[:, order], y[order])).total, loss.total)


@pytest.mark.parametrize("name", defense.names())
def test_extreme_and_equal_members_give_no_nan(name: str):
    for logits in (torch.zeros(3, 4, 10), torch.full((3, 4, 10), 60.0), torch.eye(10)[:4].expand(3, 4, 10) * 80):
        z = logits.clone().requires_grad_()
        loss = defenses.get(name)(Outputs(z, torch.arange(4))).total
        (gradient,) = torch.autograd.grad(loss, z)
        assert torch.isfinite(loss)
        assert torch.isfinite(gradient).all()
