"""What a loop may know of its tensors without stopping a GPU: a GPU works ahead of the host until something is read.

A CPU is read at every step, which costs it nothing and saves the passes of samples that are done. On any other device
a look is taken every :data:`LOOK`-th step, and what a loop does meanwhile with samples that are done is not noted of
them: they ride along. So results, and the passes that each sample needed, are the same on every device; what differs
is how many rows a pass computes.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

LOOK = 2  # steps between two looks at who is done: a look costs a wait, a sample that rides along a pass
ROUNDS = 4  # steps of an iteration that ends by itself, between two looks at whether it has
CHECK = 10  # gradients between two looks at whether all of them were finite


def waits(tensor: Tensor) -> bool:
    """Return whether the host has to wait for the device of a tensor to read a value of it."""
    return tensor.device.type != "cpu"


def put(rows: Tensor, chosen: Tensor, *pairs: tuple[Tensor, Tensor]) -> None:
    """Write ``into[rows[chosen]] = values[chosen]`` for pairs (into, values), without a look at what is chosen.

    Parameters
    ----------
    rows : Tensor of int64, shape (b,)
        Where the rows of the values are in each ``into`` (B, ...); no two are the same.
    chosen : Tensor of bool, shape (b,)
        Which of them are written.
    """
    if not waits(chosen):
        at = torch.nonzero(chosen).squeeze(1)
        if len(at):
            places = rows[at]
            for into, values in pairs:
                into[places] = values.detach()[at].to(into.dtype)
        return
    for into, values in pairs:
        wide = chosen.view(-1, *([1] * (values.dim() - 1)))
        into[rows] = torch.where(wide, values.detach().to(into.dtype), into[rows])


def settled(step: Callable[[Tensor], tuple[Tensor, Tensor]], mask: Tensor) -> Tensor:
    """Return what ``step`` of a mask (b, n) gives, beside the next mask, once the mask no longer changes.

    On a GPU only every fourth step is compared with the one before it, so that some steps are repeated.
    """
    while True:
        for _ in range(ROUNDS if waits(mask) else 1):
            before = mask
            mask, value = step(mask)
        if torch.equal(before, mask):
            return value


class Looks:
    """When a loop looks at which samples of its working set go on."""

    def __init__(self) -> None:
        self._step = -1

    def leave(self, going_on: Tensor, standing: Tensor | None = None) -> tuple[Tensor | None, Tensor | None]:
        """Count a step, and say who leaves.

        Parameters
        ----------
        going_on : Tensor of bool, shape (b,)
            Which samples of the working set are not done.
        standing : Tensor of bool, shape (b,), optional
            Which were not done before; None: all.

        Returns
        -------
        keep : Tensor of int64 or None
            Which rows the working set is cut to; None: it stays as it is.
        standing : Tensor of bool or None
            Which rows of the working set, if it is not cut, are not done; None: all of them, as far as is known.
        """
        self._step += 1
        if not waits(going_on):
            if bool(going_on.all()):
                return None, None
            return torch.nonzero(going_on).squeeze(1), None
        if standing is not None:
            going_on = going_on & standing
        if self._step % LOOK:
            return None, going_on
        keep = torch.nonzero(going_on).squeeze(1)
        return (None, None) if len(keep) == len(going_on) else (keep, None)


class Finite:
    """Whether all gradients of a run were finite, read in time on a CPU and every :data:`CHECK`-th time elsewhere.

    Whoever ends a run has to :meth:`settle`, which a ``with`` block does where nothing was raised in it.
    """

    def __init__(self) -> None:
        self._fine: Tensor | None = None
        self._words, self._count = "", 0

    def __enter__(self) -> Finite:
        return self

    def __exit__(self, kind: object, *_: object) -> None:
        if kind is None:
            self.settle()

    def note(self, gradient: Tensor, words: str, standing: Tensor | None = None) -> None:
        """Take note of a gradient (b, ...), in the rows that are ``standing``; a FloatingPointError says ``words``."""
        self._words = words
        if not waits(gradient):
            # A sum takes a twentieth of the time, and is finite only of finite elements; it may overflow of large ones.
            fine = torch.isfinite(gradient.sum())
            self._fine = fine if fine else torch.isfinite(gradient).all()
            self.settle()
            return
        fine = torch.isfinite(gradient)
        if standing is not None:
            fine = fine.flatten(1).all(1) | ~standing
        self._fine = fine.all() if self._fine is None else self._fine & fine.all()
        self._count += 1
        if self._count % CHECK == 0:
            self.settle()

    def settle_and_read(self, flag: Tensor) -> bool:
        """Return whether a flag is true, and settle in the same wait."""
        if self._fine is None:
            return bool(flag)
        read, fine = torch.stack([flag, self._fine]).tolist()
        if fine:
            self._fine = None
        self.settle()
        return bool(read)

    def settle(self) -> None:
        """Raise a FloatingPointError if a gradient since the last time was not finite."""
        fine, self._fine, self._count = self._fine, None, 0
        if fine is not None and not bool(fine):
            raise FloatingPointError(self._words)
