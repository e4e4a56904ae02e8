"""Sizes, projections, steps and random starts, against values by hand and against optimality."""

from __future__ import annotations

import pytest
import torch

from robustkit.functional.norms import project, random_start, size, steepest
from robustkit.functional.sampling import SampleGenerator

DELTA = torch.tensor([[[[3.0, -4.0], [0.0, 0.0]]], [[[0.5, 0.5], [-0.5, 0.5]]]])


@pytest.mark.parametrize(("norm", "expected"), [("l0", [2, 4]), ("l1", [7, 2]), ("l2", [5, 1]), ("linf", [4, 0.5])])
def test_sizes_by_hand(norm: str, expected: list[float]):
    assert size(DELTA, norm).tolist() == expected


def test_unknown_norm_is_refused():
    for function in (lambda: size(DELTA, "l3"), lambda: steepest(DELTA, "l1"), lambda: project(DELTA, DELTA, 1, "l3")):
        with pytest.raises(ValueError, match="is none of"):
            function()


def test_l0_projection_keeps_the_largest_moves():
    origin = torch.tensor([[[[0.5, 0.5, 0.2, 0.9]]]])
    point = torch.tensor([[[[0.6, 0.3, 0.1, 1.4]]]])
    # Clipped first: of .1, .2, .1 and .1 the largest and, of equal ones, the first.
    assert torch.equal(project(point, origin, 2, "l0"), torch.tensor([[[[0.6, 0.3, 0.2, 0.9]]]]))
    assert torch.equal(project(point, origin, 4, "l0"), point.clamp(0, 1))
    assert torch.equal(project(point, origin, 0, "l0"), origin)


def test_projection_by_hand():
    origin = torch.full((1, 1, 1, 2), 0.5)
    point = torch.tensor([[[[0.8, 0.9]]]])
    torch.testing.assert_close(project(point, origin, 0.1, "linf"), torch.tensor([[[[0.6, 0.6]]]]))
    torch.testing.assert_close(project(point, origin, 0.25, "l2"), torch.tensor([[[[0.65, 0.70]]]]))
    assert torch.equal(project(point, origin, 0.6, "l2"), point)


@pytest.mark.parametrize("norm", ["linf", "l2"])
def test_projection_stays_in_ball_and_box(norm: str):
    generator = torch.Generator().manual_seed(0)
    origin = torch.rand((64, 3, 5, 4), generator=generator)
    point = origin + torch.randn((64, 3, 5, 4), generator=generator)
    made = project(point, origin, 0.3, norm)
    assert size(made - origin, norm).max() <= 0.3 + 1e-6
    assert made.min() >= 0
    assert made.max() <= 1
    torch.testing.assert_close(project(made, origin, 0.3, norm), made)


@pytest.mark.parametrize(("norm", "dual"), [("linf", "l1"), ("l2", "l2")])
def test_steepest_step_reaches_the_dual_norm(norm: str, dual: str):
    gradient = torch.randn((16, 2, 3, 3), generator=torch.Generator().manual_seed(1))
    step = steepest(gradient, norm)
    torch.testing.assert_close((step * gradient).flatten(1).sum(1), size(gradient, dual))
    torch.testing.assert_close(size(step, norm), torch.ones(16))
    assert (steepest(torch.zeros(1, 1, 2, 2), norm) == 0).all()


def test_random_starts_fill_the_ball():
    origin = torch.full((4000, 1, 2, 2), 0.5)
    box = random_start(origin, 0.25, "linf", SampleGenerator(0, torch.arange(4000))) - origin
    assert box.abs().max() <= 0.25
    assert abs(box.std() - 0.5 / 12**0.5) < 0.003
    ball = size(random_start(origin, 0.25, "l2", SampleGenerator(0, torch.arange(4000))) - origin, "l2")
    # In d = 4 dimensions the share of the volume within r is (r / eps)^4.
    for share in (0.3, 0.6, 0.9):
        assert abs((ball <= 0.25 * share**0.25).float().mean() - share) < 0.03
