"""A pool through a model in batches: same rows, same order, less memory."""

from __future__ import annotations

import pytest
import torch
from accelerator import pretend_cuda
from torch import Tensor, nn

from robustkit.functional.batching import Batched, by_rows, filled


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


@pytest.mark.parametrize(
    ("count", "size", "to"),
    [(1, 2048, 32), (32, 2048, 32), (33, 2048, 64), (200, 2048, 256), (257, 2048, 512), (512, 2048, 512),
     (2000, 2048, 2048),
     (2048, 2048, 2048), (5, 16, 16), (40, 100, 64), (97, 100, 100), (1, 1, 1)],
)  # fmt: skip
def test_batches_of_a_gpu_have_few_sizes(count: int, size: int, to: int):
    assert filled(count, size) == to
    assert len({filled(n, size) for n in range(1, size + 1)}) <= 11


def test_on_a_gpu_full_batches_and_a_filled_one():
    spy, x = Spy(room=1000), torch.arange(300.0)[:, None]
    with pretend_cuda():
        on = x.to("cuda:0")
        assert torch.equal(Batched(spy, 128)(on).cpu(), 2 * x)
        assert spy.sizes == [128, 128, 64]
        empty = Batched(spy, 128)(on[:0])
        assert empty.shape == (0, 1)
        a, b = by_rows(Batched(spy, 128), lambda x, y: (x + y, x.new_empty(0)), on[:5], on[:5])
        assert a.shape == (5, 1)
        assert b.shape == (0,)


def test_a_batch_that_did_not_fit_is_not_filled_up_to_its_size_again():
    spy = Spy(room=20)
    model, x = Batched(spy, 64), torch.arange(70.0)[:, None]
    with pretend_cuda():
        assert torch.equal(model(x.to("cuda:0")).cpu(), 2 * x)
    assert spy.sizes == [64, 32, 16, 16, 16, 16, 16]
    assert model.size == 16
