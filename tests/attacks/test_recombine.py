"""Mixtures of what several ascents found reach what none of them reaches alone."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from robustkit import attacks
from robustkit.attacks.recombine import Pool
from robustkit.functional.sampling import SampleGenerator
from robustkit.functional.trace import Trace

EPS, SIDE, PARTS = 0.1, 16, 16  # sixteen squares of 4x4 pixels


class Valleys(nn.Module):
    """Each square of the image has two hills: brighter by eps is worth 1, darker .5, and between them is nothing.

    An ascent climbs the one that it starts on; class 1 needs all but two of the better hills.
    """

    def forward(self, x: Tensor) -> Tensor:
        moved = nn.functional.avg_pool2d(x - 0.5, 4).flatten(1) / EPS
        height = torch.where(moved > 0, moved, -0.5 * moved).sum(1)
        return torch.stack([torch.full_like(height, PARTS - 1.1), height], 1)


def attacked(name: str, images: int = 8, **settings: int) -> tuple[int, float]:
    x, y = torch.full((images, 1, SIDE, SIDE), 0.5), torch.zeros(images, dtype=torch.long)
    trace, model = Trace(images), Valleys()
    generator = SampleGenerator(0, torch.arange(images), name)
    made = attacks.get(name)(model, x, y, eps=EPS, generator=generator, trace=trace, **settings)
    assert float((made - x).abs().max()) <= EPS + 1e-6
    return int((model(made).argmax(1) == 1).sum()), float(trace.forwards.float().mean())


def test_it_finds_what_as_many_passes_of_restarts_do_not():
    found, passes = attacked("recombine", steps=6, population=16, generations=16)
    assert found >= 5
    restarts = int(passes / 25) + 1
    assert attacked("pgd", steps=24, restarts=restarts)[0] <= 2  # one in 478 starts will do
    assert attacked("quorum", restarts=restarts)[0] <= 2


def test_a_child_has_pixels_of_two_parents_and_a_few_of_neither():
    x = torch.zeros(50, 1, 16, 16)
    pool = Pool(x, 2)
    for value in (1.0, 2.0):
        pool.add(torch.full_like(x, value), torch.full((50,), value))
    child = pool.child(torch.full_like(x, 9.0), SampleGenerator(0, torch.arange(50)))
    assert set(child.unique().tolist()) == {1.0, 2.0, 9.0}
    assert 0.01 < float((child == 9).float().mean()) < 0.03
    assert 0.4 < float((child == 1).float().mean()) < 0.6
    neighbours = (child[..., 1:] == child[..., :-1]).float().mean()  # in patches, not pixel by pixel
    assert neighbours > 0.8


def test_the_worst_candidate_makes_room():
    x = torch.zeros(1, 1, 2, 2)
    pool = Pool(x, 2)
    for value in (0.3, 0.1, 0.2, 0.05):
        pool.add(torch.full_like(x, value), torch.tensor([value]))
    assert sorted(pool.value[0].tolist()) == torch.tensor([0.2, 0.3]).tolist()
    assert torch.equal(pool.first(), torch.full_like(x, 0.3))


def test_a_target_is_kept():
    class Three(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            moved = (x - 0.5).mean((1, 2, 3)) / EPS
            return torch.stack([torch.full_like(moved, 0.5), moved, -moved], 1)

    x, y = torch.full((3, 1, 8, 8), 0.5), torch.tensor([1, 2, 1])
    made = attacks.get("recombine")(Three(), x, y, eps=EPS, targeted=True, population=2, generations=1)
    assert torch.equal(Three()(made).argmax(1), y)


class Bowl(nn.Module):
    """A ridge of width eps / 100 across the image: class 1 on its very top, or nowhere where ``short`` is missing.

    The margin falls with the distance from the top in each of many directions of very different slopes, so that a step
    of one length for all pixels passes to and fro.
    """

    def __init__(self, short: float) -> None:
        super().__init__()
        self.short = short
        self.register_buffer("slope", 10.0 ** -torch.linspace(0, 3, SIDE * SIDE))
        self.register_buffer("top", 0.5 + 0.6 * EPS * torch.sin(torch.arange(SIDE * SIDE) * 1.7))

    def forward(self, x: Tensor) -> Tensor:
        away = ((x.flatten(1) - self.top).abs() * self.slope).sum(1) / EPS
        return torch.stack([away, torch.full_like(away, 0.2 - self.short)], 1)


def searched(model: nn.Module, images: int = 3, **settings: int) -> tuple[Tensor, Trace]:
    x, y = torch.full((images, 1, SIDE, SIDE), 0.5), torch.zeros(images, dtype=torch.long)
    trace = Trace(images)
    generator = SampleGenerator(0, torch.arange(images), "recombine")
    made = attacks.get("recombine")(model, x, y, eps=EPS, generator=generator, trace=trace, **settings)
    return model(made).argmax(1) == 1, trace


def test_who_is_far_costs_eight_founders_and_who_comes_no_nearer_little_more():
    whole = 32 * 49 + 60 * 32 * 7
    _, far = searched(Bowl(1000.0))
    assert far.forwards.tolist() == [1 + 8 * 49] * 3
    _, slow = searched(Bowl(0.35))
    assert 1 + 32 * 49 < int(slow.forwards.max()) < whole / 2
    _, every = searched(Bowl(0.35), stop_early=False, generations=4)
    _, some = searched(Bowl(1000.0), stop_early=False, generations=4)
    assert every.forwards.tolist() == some.forwards.tolist()  # nobody is given up


def test_an_image_is_searched_alike_alone_and_beside_others():
    model, y = Bowl(0.1), torch.zeros(3, dtype=torch.long)
    x = torch.stack([torch.full((1, SIDE, SIDE), 0.5 + shift) for shift in (0.0, 0.02, 0.4)])

    def made(rows: list[int]) -> Tensor:
        draws = SampleGenerator(0, torch.tensor(rows), "recombine")
        return attacks.get("recombine")(model, x[rows], y[rows], eps=EPS, generator=draws, population=8, generations=40)

    together = made([0, 1, 2])
    assert all(torch.allclose(made([row])[0], together[row], atol=1e-6) for row in range(3))


def test_of_several_candidates_of_an_image_all_passes_count_and_the_highest_loss_is_noted():
    trace = Trace(3, keep=2)
    rows = torch.tensor([0, 0, 1, 2, 2, 2])
    trace.count(rows, forwards=1, backwards=2)
    trace.loss(rows, torch.tensor([1.0, 3.0, -1.0, 9.0, 9.0, 9.0]))
    trace.loss(torch.tensor([1]), torch.tensor([4.0]))
    assert (trace.forwards.tolist(), trace.backwards.tolist()) == ([2, 1, 3], [4, 2, 6])
    assert trace.history.nan_to_num(nan=-9).tolist() == [[3.0, -9.0], [-1.0, 4.0]]
