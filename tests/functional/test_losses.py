"""Attack losses by hand, their invariances, and what counts as success."""

from __future__ import annotations

import pytest
import torch

from robustkit.base.names import LOSSES as LOSS_NAMES
from robustkit.functional.losses import LOSSES, objective, succeeded

Z = torch.tensor([[3.0, 1.0, 0.0, -1.0], [0.0, 2.0, 5.0, 1.0]])
Y = torch.tensor([0, 1])


def test_values_by_hand():
    torch.testing.assert_close(LOSSES["margin"](Z, Y), torch.tensor([-2.0, 3.0]))
    torch.testing.assert_close(LOSSES["dlr"](Z, Y), torch.tensor([-2.0 / 3.0, 3.0 / 4.0]))
    expected = -torch.log(torch.exp(Z[[0, 1], Y]) / torch.exp(Z).sum(1))
    torch.testing.assert_close(LOSSES["ce"](Z, Y), expected)


def test_dlr_with_two_classes_is_the_margin_and_has_a_gradient():
    z = torch.tensor([[2.0, 0.5]], requires_grad=True)
    loss = LOSSES["dlr"](z, torch.tensor([0]))
    torch.testing.assert_close(loss.detach(), torch.tensor([-1.5]))
    assert torch.autograd.grad(loss.sum(), z)[0].tolist() == [[-1.0, 1.0]]


@pytest.mark.parametrize("name", LOSS_NAMES)
def test_log_probabilities_give_the_same_loss_as_logits(name: str):
    torch.testing.assert_close(LOSSES[name](Z.log_softmax(1), Y), LOSSES[name](Z, Y), atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(objective(name, True)(Z, Y), -LOSSES[name](Z, Y))


def test_success_and_what_is_not_finite():
    z = torch.tensor([[1.0, 2.0], [2.0, 1.0], [float("nan"), 1.0]])
    y = torch.zeros(3, dtype=torch.int64)
    assert succeeded(z, y, targeted=False).tolist() == [True, False, False]
    assert succeeded(z, y, targeted=True).tolist() == [False, True, False]


def test_names_known_without_torch_are_the_names_there_are():
    assert tuple(LOSSES) == LOSS_NAMES
