"""Attribution diversity against NumPy on networks whose input gradients are known."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn

from robustkit.defenses import Batch, Outputs
from robustkit.defenses.attribution import attribution

SIDE, CLASSES, BATCH = 4, 5, 6


def linear_members(count: int, scale: float = 1.0) -> list[nn.Module]:
    generator = torch.Generator().manual_seed(0)
    members = []
    for _ in range(count):
        network = nn.Sequential(nn.Flatten(), nn.Linear(2 * SIDE**2, CLASSES)).double()
        weight = torch.randn(network[1].weight.shape, generator=generator, dtype=torch.float64)
        network[1].weight.data = scale * weight
        network[1].bias.data.zero_()
        members.append(network)
    return members


def outputs(members: list[nn.Module]) -> Outputs:
    generator = torch.Generator().manual_seed(1)
    x = torch.rand((BATCH, 2, SIDE, SIDE), generator=generator, dtype=torch.float64)
    y = torch.randint(0, CLASSES, (BATCH,), generator=generator)
    return Outputs(torch.stack([m(x) for m in members]), y, members, Batch(x, y))


def absolute_gradients(members: list[nn.Module], y: torch.Tensor) -> np.ndarray:
    return np.abs(np.stack([m[1].weight.detach().numpy()[y.numpy()] for m in members]))  # of a linear network


@pytest.mark.parametrize("members", [2, 3, 5])
def test_equations_7_and_8_against_numpy(members: int):
    given = outputs(linear_members(members))
    a = absolute_gradients(list(given.members), given.y)
    diversity = np.mean([sum(np.var(a[:, b, p]) for p in range(a.shape[2])) for b in range(BATCH)])
    ce = torch.nn.functional.cross_entropy(given.logits.flatten(0, 1), given.y.repeat(members))
    found = attribution(given, lam=0.01, bounded=False)
    assert float(found.total.detach()) == pytest.approx(float(ce.detach()) - 0.01 * diversity, rel=1e-9)
    unit = a / np.linalg.norm(a, axis=2, keepdims=True)
    diversity = 1 - np.mean((unit.mean(0) ** 2).sum(1))
    found = attribution(given, lam=0.3)
    assert float(found.parts["diversity"]) == pytest.approx(diversity, rel=1e-9)
    assert float(found.total.detach()) == pytest.approx(float(ce.detach()) - 0.3 * diversity, rel=1e-9)


def test_only_the_papers_form_grows_with_the_logits():
    small, large = outputs(linear_members(3)), outputs(linear_members(3, 10.0))
    raw = [float(attribution(given, bounded=False).parts["diversity"]) for given in (small, large)]
    assert raw[1] == pytest.approx(100 * raw[0])
    bounded = [float(attribution(given).parts["diversity"]) for given in (small, large)]
    assert bounded[1] == pytest.approx(bounded[0])


def test_bounds_are_reached():
    one = linear_members(1)[0]
    assert float(attribution(outputs([one, one, one])).parts["diversity"]) == pytest.approx(0, abs=1e-12)
    members = linear_members(4)
    for index, member in enumerate(members):  # each looks at pixels of its own
        mask = torch.zeros(2 * SIDE**2, dtype=torch.float64)
        mask[8 * index : 8 * index + 8] = 1
        member[1].weight.data *= mask
    assert float(attribution(outputs(members)).parts["diversity"]) == pytest.approx(1 - 1 / 4)
