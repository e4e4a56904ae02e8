"""The hypernetwork by itself: its map, the count of shared edges, Theorem 1, and a toy loss that it is trained on."""

from __future__ import annotations

import pytest
import torch

from robustkit.models._genotype import OPERATIONS, Genotype
from robustkit.search._alternate import Step
from robustkit.search._around import Around, Dial, Ramp
from robustkit.search._hypernetwork import (
    Hypernetwork,
    expected_trained_edges,
    relative_speed,
    shared_edges,
    softened,
    strata,
)
from robustkit.search._space import Mixture, Space

SPACE = Space(6)
OPTIMUM = Genotype((1, 0, 3), ("sep_conv_3x3", "skip_connect", "dil_conv_5x5"))


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def hypernetwork(seed: int = 0, size: int = 4) -> Hypernetwork:
    """A map of four numbers with pivots at uneven places."""
    made = Hypernetwork(size, 3, generator=generator(seed)).double()
    with torch.no_grad():
        made.vectors.normal_(generator=generator(seed + 1))
        made.widths.normal_(std=2, generator=generator(seed + 2))
    return made


def test_map_is_the_pivots_vectors_and_straight_between():
    made = hypernetwork()
    r, a = made.pivots, made.vectors
    assert torch.allclose(made(r), a)
    for k in range(4):
        for t in (0.25, 0.5, 0.9):
            lam = (1 - t) * r[k] + t * r[k + 1]
            assert torch.allclose(made(lam), (1 - t) * a[k] + t * a[k + 1])


def test_map_is_continuous_at_pivots_where_the_printed_equation_jumps():
    made = hypernetwork()
    inner = made.pivots[1:-1].detach()
    assert torch.allclose(made(inner - 1e-9), made(inner + 1e-9), atol=1e-6)
    assert (printed(made, inner - 1e-9) - printed(made, inner + 1e-9)).abs().max() > 0.1


def printed(made: Hypernetwork, lam: torch.Tensor) -> torch.Tensor:
    """Eq. 2.2 as the paper prints it, inside an interval: the share of the way from r_k weighs a_k."""
    r, a = made.pivots, made.vectors
    k = torch.searchsorted(r, lam) - 1
    t = ((lam - r[k]) / (r[k + 1] - r[k]))[:, None]
    return t * a[k] + (1 - t) * a[k + 1]


def test_pivots_are_sorted_whatever_is_trained_and_ends_stand_still():
    for seed in range(5):
        made = hypernetwork(seed)
        with torch.no_grad():
            made.widths.normal_(std=30, generator=generator(seed))
        r = made.pivots
        assert (r[0], r[-1]) == (0, 3)
        assert (r.diff() > 0).all()
    assert torch.allclose(Hypernetwork(4, 3, generator=generator()).pivots, torch.tensor([0, 0.75, 1.5, 2.25, 3]))


def test_beyond_the_ends_lambda_counts_as_the_end_and_trains_its_vector():
    made = hypernetwork()
    lam = torch.tensor([-0.2, 3.2], dtype=torch.float64)
    assert torch.equal(made(lam), made.vectors[[0, 4]])
    made(lam).sum().backward()
    assert made.vectors.grad.abs().sum(1).tolist() == [4, 0, 0, 0, 4]


def test_gradients_of_vectors_and_pivots():
    made = hypernetwork()
    lam = torch.tensor([0.1, 0.8, 1.7, 2.9], dtype=torch.float64)

    def values(vectors: torch.Tensor, widths: torch.Tensor) -> torch.Tensor:
        return torch.func.functional_call(made, {"vectors": vectors, "widths": widths}, (lam,))

    assert torch.autograd.gradcheck(values, (made.vectors, made.widths))


def test_shared_edges_of_discrete_architectures_are_counted():
    others = [SPACE.random(generator(seed)) for seed in range(200)]
    others.append(Genotype((1, 0, 2), OPTIMUM.operations))  # an operation on another edge is not shared
    others.append(OPTIMUM)
    assert {other.shared(OPTIMUM) for other in others} >= {0, 1, 2, 3}
    for other in others:
        beta = SPACE.one_hot(other).sum(1)
        counted = shared_edges(Mixture(SPACE.one_hot(other), beta), softened(SPACE, OPTIMUM, 1.0))
        assert counted.item() == other.shared(OPTIMUM)


def test_softened_optimum_shares_out_what_tau_leaves():
    target = softened(SPACE, OPTIMUM, 0.99)
    assert target[1, OPERATIONS.index("sep_conv_3x3")] == pytest.approx(0.99)
    assert target[0, 0] == pytest.approx(0.01 / 13)  # a node of two parents has fourteen pairs
    assert [target[SPACE.into(node)].sum().item() for node in SPACE.inner] == pytest.approx([1, 1, 1])


def test_shared_edges_by_hand():
    vector = torch.zeros(SPACE.size)
    uniform = SPACE.softmax(vector)
    expected = (1 / 2 + 1 / 3 + 1 / 4) / 7
    assert shared_edges(uniform, softened(SPACE, OPTIMUM, 1.0)).item() == pytest.approx(expected)


class Toy(Around):
    """Trains a hypernetwork on the regulariser and, instead of a network's loss, on a price of each operation."""

    def train(self, steps: int, lr: float, seed: int) -> None:
        price = torch.rand(len(SPACE.edges), len(OPERATIONS), generator=generator(seed + 10))
        price *= 1 - SPACE.one_hot(self.optimum)  # the optimum has no price
        optimiser = torch.optim.Adam(self.hypernetwork.parameters(), lr, betas=(0.5, 0.9))
        draws = generator(seed + 20)
        for at in range(steps):
            drawn = self(Step(at / steps, draws, architecture_step=True))
            optimiser.zero_grad()
            ((drawn.mixture.joint * price).sum() + drawn.penalty).backward()
            optimiser.step()

    def errors(self) -> list[float]:
        """How far the shared edges drawn at each whole lambda are from it, on average."""
        return [abs(float(self.sampled(float(lam), 500, generator(lam)).mean()) - lam) for lam in range(4)]


def toy(seed: int, steps: int, lr: float, **dial: object) -> list[float]:
    made = Toy(
        SPACE, SPACE.random(generator(seed)), Hypernetwork(SPACE.size, 3, generator=generator(seed)), Dial(**dial)
    )
    made.train(steps, lr, seed)
    return made.errors()


@pytest.mark.parametrize("margin", [0.2, 0.0])
def test_shared_edges_follow_lambda_on_a_toy_loss(margin: float):
    assert max(toy(0, 250, 0.05, margin=margin)) < 0.5


def test_with_one_lambda_a_step_it_takes_the_margin_to_reach_the_end():
    """The paper's plain form."""
    assert max(toy(1, 400, 0.05, draws=1)) < 0.5
    assert toy(1, 400, 0.05, draws=1, margin=0.0)[3] > 0.5


def test_ramps_are_linear():
    dial = Dial()
    assert [dial.weight.at(e / 4) for e in range(5)] == pytest.approx([0.3, 0.975, 1.65, 2.325, 3.0])
    assert dial.temperature.at(0.5) == pytest.approx(0.525)
    assert Ramp(3.0, 3.0).at(0.3) == 3.0


def test_strata_cover_the_range():
    for seed in range(20):
        found = strata(6, 3, generator(seed))
        assert all(at / 2 <= lam < (at + 1) / 2 for at, lam in enumerate(found))


def simulated(members: int, length: int, least: int, runs: int = 4000) -> tuple[float, float]:
    """Mean and standard error of how many edges of the members a step trains.

    Each architecture keeps a random set of so many of the optimum's edges, out of least, ..., Lambda.
    """
    rng = generator(length)

    def architectures(count: int) -> torch.Tensor:
        sizes = torch.randint(least, length + 1, (count,), generator=rng)
        ranks = torch.rand(count, length, generator=rng).argsort(1).argsort(1)
        return ranks < sizes[:, None]

    trained = architectures(runs)
    shared = sum(((trained & architectures(runs)).sum(1) for _ in range(members)), torch.zeros(runs)).double()
    return shared.mean().item(), shared.std().item() / runs**0.5


@pytest.mark.parametrize(("members", "length"), [(3, 3), (5, 3), (3, 8), (1, 1)])
def test_theorem_1_by_simulation(members: int, length: int):
    mean, error = simulated(members, length, least=1)
    assert abs(mean - expected_trained_edges(members, length)) <= 4 * error
    assert relative_speed(members, length) == pytest.approx(mean / length, abs=4 * error / length)


def test_theorem_1_without_its_least_lambda_of_one():
    """With lambda from 0 up, as the paper trains, it is N Lambda / 4: for N = 3 less than of one DARTS run."""
    mean, error = simulated(3, 3, least=0)
    assert abs(mean - 3 * 3 / 4) <= 4 * error
    assert mean < 3 < expected_trained_edges(3, 3) == 4
