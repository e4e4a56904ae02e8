"""Scores in torch against those in NumPy, and their gradients."""

from __future__ import annotations

import typing

import numpy as np
import pytest
import torch

from robustkit.base import names
from robustkit.ensembles.fusion import mean_prob
from robustkit.functional.detectors import DETECTORS, Detector, normality
from robustkit.metrics.scores import NEEDS_MEMBERS, SCORES


def logits(members: int = 3) -> torch.Tensor:
    """Logits from unsure to so sure that a softmax in float32 leaves nothing to the other classes."""
    spread = torch.tensor([0.1, 1.0, 4.0, 20.0, 60.0]).repeat(6)[:, None]
    return spread * torch.randn(members, 30, 7, generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize("name", DETECTORS)
def test_values_are_those_of_the_report(name: str):
    z = logits()
    fused = mean_prob(z)
    wanted = SCORES[name](z.numpy(), fused.numpy())
    if name == "msp":
        wanted = np.log(wanted)
    # float32 here: of log det, that of a gram matrix in float64 made of float32 logits
    np.testing.assert_allclose(normality(name, z, fused).numpy(), wanted, rtol=2e-4, atol=2e-5)


@pytest.mark.parametrize("name", DETECTORS)
def test_gradient_is_that_of_differences(name: str):
    z = logits()[:, :10].double().requires_grad_(True)
    gradient = torch.autograd.grad(normality(name, z, mean_prob(z)).sum(), z)[0]
    assert torch.isfinite(gradient).all()
    direction = torch.randn(z.shape, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    ahead, behind = (normality(name, v, mean_prob(v)).detach() for v in (z + 1e-6 * direction, z - 1e-6 * direction))
    slope = (gradient * direction).sum((0, 2))
    torch.testing.assert_close((ahead - behind) / 2e-6, slope, rtol=1e-3, atol=1e-5)


def test_every_score_but_the_vote_is_here():
    assert set(DETECTORS) == set(SCORES) - {"agreement"}
    assert typing.get_args(Detector) == tuple(DETECTORS)
    assert names.ALIASES["Detector"] == f"Literal[{', '.join(repr(v) for v in DETECTORS)}]"


@pytest.mark.parametrize("name", NEEDS_MEMBERS)
def test_of_one_member_what_compares_members_is_constant(name: str):
    z = logits(1).requires_grad_(True)
    value = normality(name, z, mean_prob(z))
    assert (value == 0).all()
    assert not value.requires_grad


def test_a_class_of_probability_zero_adds_nothing_to_the_entropy():
    sure = torch.tensor([[0.0, float("-inf")]])
    assert DETECTORS["entropy"](sure[None], sure).tolist() == [0.0]
