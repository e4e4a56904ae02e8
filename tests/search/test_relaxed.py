"""The relaxed cell: equal to one that computes operations one by one, to a discrete one, and to its own gradients."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from robustkit import models
from robustkit.base.errors import UserError
from robustkit.models._cell import Cell, operation
from robustkit.models._genotype import OPERATIONS, Genotype
from robustkit.search._relaxed import RelaxedCell, RelaxedNetwork
from robustkit.search._space import Mixture, Space

sys.path.append(str(Path(__file__).parents[2] / "benchmarks"))
import _plain_cell  # noqa: E402  the reference

MIXED = Genotype((1, 0, 3), ("sep_conv_5x5", "avg_pool_3x3", "dil_conv_3x3"))


def inputs(channels: int, side: int, batch: int = 4) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(0)
    x0, x1 = (torch.randn(batch, channels, side, side + 1, generator=generator).double() for _ in range(2))
    return x0.requires_grad_(), x1.requires_grad_()


def drawn(space: Space) -> Tensor:
    return torch.randn(space.size, generator=torch.Generator().manual_seed(1)).double().requires_grad_()


@pytest.mark.parametrize("partial", [1, 2])
@pytest.mark.parametrize("nodes", [4, 6])
def test_equal_to_every_operation_by_itself(nodes: int, partial: int):
    space = Space(nodes)
    fast = RelaxedCell(space, 4, partial).double()
    plain = _plain_cell.like(fast)
    (x0, x1), vector = inputs(4, 5), drawn(space)
    mixture = space.softmax(vector)
    out, reference = (cell(x0, x1, mixture.alpha, mixture.beta) for cell in (fast, plain))
    torch.testing.assert_close(out, reference, atol=1e-12, rtol=1e-12)
    weights = torch.randn(out.shape, generator=torch.Generator().manual_seed(2)).double()
    asked = [x0, x1, vector]
    ours = torch.autograd.grad((out * weights).sum(), [*asked, fast.outgoing[1].sep5b_depthwise], retain_graph=True)
    second = plain.mixed[1].operations[OPERATIONS.index("sep_conv_5x5")][1][1]  # of the edge from node 1 to node 2
    theirs = torch.autograd.grad((reference * weights).sum(), [*asked, second.weight])
    for mine, other in zip(ours[:3], theirs[:3], strict=True):
        torch.testing.assert_close(mine, other, atol=1e-11, rtol=1e-11)
    torch.testing.assert_close(ours[3][0], theirs[3][:, 0], atol=1e-11, rtol=1e-11)


@pytest.mark.parametrize("partial", [1, 4])
def test_equal_in_the_precision_and_layout_of_a_search(partial: int):
    space = Space()
    fast = RelaxedCell(space, 16, partial)
    plain = _plain_cell.like(fast)
    x0, x1 = (x.detach().float().contiguous(memory_format=torch.channels_last) for x in inputs(16, 8, batch=16))
    vector = drawn(space).detach().float().requires_grad_()
    gradients = []
    for cell, precision in ((fast, torch.float32), (plain.double(), torch.float64)):
        mixture = space.softmax(vector.to(precision))
        out = cell(x0.to(precision), x1.to(precision), mixture.alpha, mixture.beta)
        gradients.append(torch.autograd.grad(out.square().mean() + out.mean(1).exp().mean(), vector)[0].double())
    assert (gradients[0] - gradients[1]).norm() < 1e-4 * gradients[1].norm()


def test_gradients_are_those_of_differences():
    space = Space(5)
    cell = RelaxedCell(space, 2, 1).double()
    (x0, x1), vector = inputs(2, 2, batch=2), drawn(space)
    moved = [cell.outgoing[0].sep3a_depthwise, cell.outgoing[1].dil5_pointwise]

    def out(x0: Tensor, x1: Tensor, vector: Tensor, *_: Tensor) -> Tensor:
        mixture = space.softmax(vector)
        return cell(x0, x1, mixture.alpha, mixture.beta)

    assert torch.autograd.gradcheck(out, (x0, x1, vector, *moved), atol=1e-5, rtol=1e-4)


def test_gradient_of_a_relaxed_sample():
    space = Space()
    vector = drawn(space)

    def joint(vector: Tensor) -> Tensor:
        return space.gumbel(vector, 0.7, torch.Generator().manual_seed(3)).joint

    assert torch.autograd.gradcheck(joint, (vector,))


def test_a_one_hot_mixture_is_the_discrete_cell():
    space = Space()
    fast = RelaxedCell(space, 4, 1).double()
    plain, discrete = _plain_cell.like(fast), Cell(MIXED, 4).double()
    for (parent, node, name), mine in zip(MIXED.chosen, discrete.operations, strict=True):
        theirs = plain.mixed[space.edges.index((parent, node))].operations[OPERATIONS.index(name)]
        mine.load_state_dict(theirs.state_dict(), strict=False)  # the discrete one's batch norm has weights: 1 and 0
    kept = space.one_hot(MIXED).double()
    x0, x1 = inputs(4, 6)
    torch.testing.assert_close(fast(x0, x1, kept, kept.sum(1)), discrete(x0, x1), atol=1e-12, rtol=1e-12)


def test_what_passes_by_the_operations():
    space = Space(4)
    cell = RelaxedCell(space, 4, 4).double()
    x0, x1 = inputs(4, 4)
    beta = torch.tensor([0.25, 0.75]).double()
    out = cell(x0, x1, torch.full((2, 7), 1 / 7).double(), beta)
    assert out.shape == (4, 4, 4, 5)
    torch.testing.assert_close(out[:, 1:], 0.25 * x0[:, 1:] + 0.75 * x1[:, 1:])


def test_shuffled_channels_let_each_group_see_the_operations():
    cell = RelaxedCell(Space(), 8, 4)
    order = cell._shuffled(torch.arange(8.0).view(1, 8, 1, 1)).flatten().tolist()
    assert order == [0, 2, 4, 6, 1, 3, 5, 7]  # ShuffleNet: the first quarter is no longer the first quarter


@pytest.mark.parametrize("name", OPERATIONS)
def test_operations_keep_the_size(name: str):
    x = torch.randn(2, 4, 5, 8)
    act = operation(name, 4)
    assert act(x).shape == x.shape
    if name == "max_pool_3x3":
        torch.testing.assert_close(
            act(x), functional.batch_norm(functional.max_pool2d(x, 3, 1, 1), None, None, training=True)
        )
    if name == "avg_pool_3x3":
        corner = x[:, :, :2, :2].mean((2, 3))  # of what there is at a border
        pooled = functional.avg_pool2d(x, 3, 1, 1, count_include_pad=False)
        torch.testing.assert_close(pooled[:, :, 0, 0], corner)


def sides_of(cells: nn.ModuleList, network: nn.Module, x: Tensor) -> list[int]:
    """Return the side of what each cell gives when the network is run."""
    sides: list[int] = []
    for cell in cells:
        cell.register_forward_hook(lambda _, given, out: sides.append(out.shape[-1]))
    network(x)
    return sides


@pytest.mark.parametrize(("channels", "side"), [(1, 8), (3, 9), (1, 28), (3, 32)])
def test_every_size_and_number_of_channels(channels: int, side: int):
    space = Space()
    relaxed = RelaxedNetwork(space, channels, 5, 8, 4)
    mixture = space.softmax(torch.zeros(space.size))
    x = torch.rand(3, channels, side, side)
    assert relaxed(x, mixture).shape == (3, 5)
    for cells in (1, 2, 3):
        final = models.build("genotype", channels, 5, {"genotype": MIXED.to_json(), "cells": cells, "width": 4})
        assert final(x).shape == (3, 5)
        sizes = sides_of(final.cells, final, x)
        half, quarter = -(-side // 2), -(-side // 4)
        assert sizes == [half, quarter, quarter][:cells]  # two reductions, rounded up


def test_mixture_steers_what_is_computed():
    space = Space(4)
    network = RelaxedNetwork(space, 1, 2, 4, 1).double()
    x = torch.rand(2, 1, 8, 8).double()
    zero = torch.zeros(2).double()
    skip = torch.zeros(2, 7).double()
    skip[:, OPERATIONS.index("skip_connect")] = 1
    given = [Mixture(skip, zero + torch.tensor(b).double()) for b in ([1.0, 0.0], [0.0, 1.0])]
    assert (network(x, given[0]) - network(x, given[1])).abs().max() > 1e-3


def test_width_that_cannot_be_divided():
    with pytest.raises(UserError, match="width 10 cannot be divided by partial 4"):
        RelaxedNetwork(Space(), 1, 10, 10, 4)


@pytest.mark.parametrize("parents", [(0, 0, 0), (1, 1, 3), (0, 2, 1)])
@pytest.mark.parametrize("cells", [1, 2])
def test_every_weight_of_a_final_network_is_used(parents: tuple[int, ...], cells: int):
    genotype = Genotype(parents, MIXED.operations)
    network = models.build("genotype", 1, 3, {"genotype": genotype.to_json(), "cells": cells, "width": 4})
    network(torch.rand(4, 1, 8, 8)).square().sum().backward()
    assert not [name for name, p in network.named_parameters() if p.grad is None]
