"""A pool through a model in batches: same rows, same order, less memory."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from robustkit.functional.batching import Batched, by_rows


class Spy(nn.Module):
    def __init__(self, room: int = 100) -> None:
        super().__init__()
        self.room = room
        self.sizes: list[int] = []

    def forward(self, x: Tensor) -> Tensor:
        self.sizes.append(len(x))
        if len(x) > self.room:
            raise torch.OutOfMemoryError("no")
        return 2 * x


X = torch.arange(10.0)[:, None]


@pytest.mark.parametrize(("size", "sizes"), [(10, [10]), (64, [10]), (9, [5, 5]), (4, [4, 3, 3]), (1, [1] * 10)])
def test_batches_are_even_and_rows_keep_their_order(size: int, sizes: list[int]):
    spy = Spy()
    assert torch.equal(Batched(spy, size)(X), 2 * X)
    assert spy.sizes == sizes


def test_without_batches_all_goes_at_once():
    spy = Spy()
    (out,) = by_rows(spy, lambda part: (spy(part),), X)
    assert torch.equal(out, 2 * X)
    assert spy.sizes == [10]


def test_memory_that_runs_out_costs_one_batch():
    spy = Spy(room=3)
    model = Batched(spy, 8)
    assert torch.equal(model(X), 2 * X)
    assert spy.sizes == [5, 3, 3, 2, 2]
    assert model.size == 3
    with pytest.raises(torch.OutOfMemoryError):
        Batched(Spy(room=0), 8)(X)


def test_several_tensors_stay_together():
    model = Batched(Spy(), 3)
    a, b = by_rows(model, lambda x, y: (x + y, x - y), X, 10 * X)
    assert torch.equal(a, 11 * X)
    assert torch.equal(b, -9 * X)


def test_an_empty_pool_is_one_empty_batch():
    assert Batched(Spy(), 4)(X[:0]).shape == (0, 1)
