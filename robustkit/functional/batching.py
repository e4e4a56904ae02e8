"""Many samples through a model a batch at a time, with smaller batches where memory runs out.

An attack works on a pool of samples, larger than a batch. As samples leave it the rest moves up, so that the model's
batches stay full to the end, and when memory runs out only one batch is computed again, not the attack.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import TypeVar

import torch
from torch import Tensor, nn

Value = TypeVar("Value")
SMALLEST, SIZES = 32, 8  # rows of the smallest batch on a CUDA device, and how many sizes it has above an eighth
# How CUDA's libraries say that memory ran out, where it is not torch's allocator that does: cuDNN found no algorithm
# whose workspace fits, or a library or the driver got no memory of its own.
SHORTAGES = (
    "out of memory",
    "unable to find an engine to execute this computation",
    "CUDNN_STATUS_ALLOC_FAILED",
    "CUBLAS_STATUS_ALLOC_FAILED",
    "CUSOLVER_STATUS_ALLOC_FAILED",
)


class Batched(nn.Module):
    """A model that computes at most ``size`` samples at a time where no gradient is asked for.

    Where one is, its caller goes through :func:`by_rows`, which keeps the graph of one batch alone in memory.
    """

    def __init__(self, model: nn.Module, size: int) -> None:
        super().__init__()
        self.model = model
        self.size = size

    def forward(self, x: Tensor) -> Tensor:
        """Return the model's output on x (B, C, H, W)."""
        if torch.is_grad_enabled() and x.requires_grad:
            output: Tensor = self.model(x)
            return output
        return by_rows(self, lambda part: (self.model(part),), x)[0]


def by_rows(model: object, function: Callable[..., tuple[Tensor, ...]], *rows: Tensor) -> tuple[Tensor, ...]:
    """Return what a function of samples gives, computed in even batches that ``model``, if :class:`Batched`, can take.

    On a CUDA device batches are full, and what is left of them is filled up to one of a few sizes by repeating a row:
    cuDNN chooses its algorithms, and CUDA graphs are captured, for each size anew.

    Parameters
    ----------
    function : callable
        Takes tensors of one row per sample and returns such tensors; each row depends on its own alone.
    rows : Tensor
        Of N rows each.
    """
    if not isinstance(model, Batched):
        return function(*rows)
    compute = lambda part: function(*(tensor[part] for tensor in rows))  # noqa: E731
    on_cuda = rows[0].device.type == "cuda"
    if on_cuda:
        compute = _Filled(function, rows, model.size)
    parts, model.size = in_parts(compute, len(rows[0]), model.size, even=not on_cuda)
    if len(parts) == 1:
        return parts[0]
    return tuple(torch.cat(part) for part in zip(*parts, strict=True))


class _Filled:
    """A function of a part of some rows, which is filled up to one of a few sizes."""

    def __init__(self, function: Callable[..., tuple[Tensor, ...]], rows: tuple[Tensor, ...], size: int) -> None:
        self.function, self.rows, self.size = function, rows, size

    def __call__(self, part: slice) -> tuple[Tensor, ...]:
        given = [tensor[part] for tensor in self.rows]
        count = len(given[0])
        try:
            missing = filled(count, self.size) - count
            if not count or not missing:
                return self.function(*given)
            more = (torch.cat([t, t[:1].expand(missing, *t.shape[1:])]) for t in given)
            return tuple(out[:count] for out in self.function(*more))
        except RuntimeError as error:
            if out_of_memory(error):  # what is tried next is a part of half that many rows
                self.size = (count + 1) // 2
            raise


def filled(count: int, size: int) -> int:
    """Return to how many rows so many are filled up, in batches of at most ``size``: few sizes, and few rows more.

    These are the eighths of ``size`` and, below an eighth, 32, 64, 128, ...
    """
    step = max(SMALLEST, size // SIZES)
    if count > step:
        return min(size, -(-count // step) * step)
    doublings = max(0, math.ceil(math.log2(max(1, count) / SMALLEST)))
    return min(size, step, SMALLEST << doublings)


def in_parts(function: Callable[[slice], Value], n: int, size: int, *, even: bool = False) -> tuple[list[Value], int]:
    """Return what a function gives of n rows, a part of at most ``size`` at a time, and the size that fitted.

    Where memory runs out the part is halved, and so are those that follow; where one row does not fit either, the error
    is raised. ``even``: no part is much smaller than the others. Of no rows the function is called once.
    """
    values: list[Value] = []
    done = 0
    while done < n or not values:
        left = n - done
        take = -(-left // max(1, -(-left // size))) if even else min(left, size)
        try:
            values.append(function(slice(done, done + take)))
        except RuntimeError as error:
            if take <= 1 or not out_of_memory(error):
                raise
            size = (take + 1) // 2
            continue
        done += take
    return values, size


def of_the_device(error: BaseException) -> bool:
    """Return whether an error is the device's, a shortage or a fault, and says nothing of the model that ran on it."""
    faults: type[BaseException] | tuple[()] = getattr(torch, "AcceleratorError", ())  # torch 2.8 and later
    return out_of_memory(error) or isinstance(error, faults) or "CUDA error" in str(error)


def out_of_memory(error: BaseException) -> bool:
    """Return whether an error says that the memory of the device ran out, so that a smaller batch may fit."""
    if isinstance(error, torch.OutOfMemoryError):
        return True
    return isinstance(error, RuntimeError) and any(words in str(error) for words in SHORTAGES)
