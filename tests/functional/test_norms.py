"""Sizes, projections, steps and random starts, against values by hand and against optimality."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from robustkit.functional.norms import (
    largest,
    onto_ball,
    onto_box_and_l1,
    project,
    random_start,
    size,
    steepest,
)
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


def nearest_in_l1(delta: np.ndarray, radius: float, room: np.ndarray) -> np.ndarray:
    """Shrink all sizes by one threshold, each to its room at most, so that they sum to the radius: found by halving."""
    low, high = 0.0, float(np.abs(delta).max(initial=0.0))
    if np.minimum(np.abs(delta), room).sum() <= radius:
        high = 0.0
    for _ in range(200):
        middle = (low + high) / 2
        total = np.minimum(np.maximum(np.abs(delta) - middle, 0), room).sum()
        low, high = (middle, high) if total > radius else (low, middle)
    return np.sign(delta) * np.minimum(np.maximum(np.abs(delta) - high, 0), room)


@pytest.fixture
def moves() -> torch.Tensor:
    """Six moves of seven elements, one of them none at all, one with an element that stays."""
    delta = torch.randn((6, 7), generator=torch.Generator().manual_seed(5), dtype=torch.float64)
    delta[4] = 0
    delta[2, 3] = 0
    return delta


RADII = torch.tensor([0.1, 0.5, 1.0, 3.0, 1.0, 100.0], dtype=torch.float64)


def test_nearest_points_of_balls_of_several_radii(moves: torch.Tensor):
    within = onto_ball(moves, RADII, "linf")
    assert torch.equal(within, torch.stack([row.clamp(-r, r) for row, r in zip(moves, RADII.tolist(), strict=True)]))
    within = onto_ball(moves, RADII, "l2")
    expected = [row * min(1.0, r / max(float(row.norm()), 1e-9)) for row, r in zip(moves, RADII.tolist(), strict=True)]
    torch.testing.assert_close(within, torch.stack(expected))
    within = onto_ball(moves, RADII, "l1")
    expected = [nearest_in_l1(row.numpy(), r, np.inf) for row, r in zip(moves, RADII.tolist(), strict=True)]
    torch.testing.assert_close(within, torch.from_numpy(np.stack(expected)), atol=1e-12, rtol=0)
    assert torch.equal(within[5], moves[5])
    within = onto_ball(moves, torch.tensor([0.0, 1, 2, 6, 3, 7]), "l0")
    assert (within != 0).sum(1).tolist() == [0, 1, 2, 6, 0, 7]
    for row, kept in zip(moves, within, strict=True):
        assert torch.equal(kept[kept != 0], row[kept != 0])
        if 0 < (kept != 0).sum() < 7:
            assert row[kept == 0].abs().max() <= row[kept != 0].abs().min()


def test_of_equal_moves_the_first_are_the_largest():
    values = torch.tensor([[1.0, 2.0, 2.0, 2.0], [3.0, 1.0, 3.0, 2.0]])
    chosen = largest(values, torch.tensor([2, 3]))
    assert chosen.tolist() == [[False, True, True, False], [True, False, True, True]]


@pytest.mark.parametrize("eps", [0.05, 0.7, 2.0, 50.0])
def test_nearest_point_of_the_box_and_an_l1_ball(moves: torch.Tensor, eps: float):
    origin = torch.rand((6, 7), generator=torch.Generator().manual_seed(6), dtype=torch.float64)
    origin[0, :3] = torch.tensor([0.0, 1.0, 0.5])
    made = onto_box_and_l1(origin + moves, origin, eps)
    rooms = torch.where(moves > 0, 1 - origin, origin)
    expected = [
        start.numpy() + nearest_in_l1(row.numpy(), eps, room.numpy())
        for start, row, room in zip(origin, moves, rooms, strict=True)
    ]
    torch.testing.assert_close(made, torch.from_numpy(np.stack(expected)), atol=1e-9, rtol=0)
